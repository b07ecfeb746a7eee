"""Laws of layers that do not train: dead, frozen by mistake, frozen on purpose, vanished, piled up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.builders import gradient_sample, gradient_table, step_report
from tests.detecting import LAYERS, noise, reports_of, see

from loopscope.detectors.accumulation import AccumulatingGradient, AccumulatingRule
from loopscope.detectors.layers import DeadRule, FrozenRule, LayerLife
from loopscope.detectors.vanishing import VanishingGradient, VanishingRule
from loopscope.records import Event, StepReport

NAN = math.nan


def _life(*reports: StepReport) -> list[Event]:
    return see(LayerLife(DeadRule(), FrozenRule()), reports)


def _steps(num_steps: int, norms: tuple[float, ...], start: int = 0, **changes: Any) -> list[StepReport]:
    table = gradient_table(norms, layers=LAYERS, **changes)
    return [step_report(start + step, gradients=table) for step in range(num_steps)]


@pytest.mark.parametrize(("norm", "is_none"), [(NAN, True), (0.0, False)])
def test_layer_without_gradient_is_dead(norm: float, is_none: bool) -> None:
    """It is told once, at the thirtieth step, with its layer and its parameter."""
    (event,) = _life(*_steps(200, (1.0, norm, 1.0)))

    assert (event.kind, event.severity, event.step, event.layer) == ("dead_layer", "warning", 29, "body")
    assert event.attributes["is_none"] is is_none
    assert event.attributes["parameter"] == "body.1.weight"


def test_dead_layer_counts_dropped_steps() -> None:
    """A report that stands for several steps brings it nearer."""
    table = gradient_table((1.0, NAN, 1.0), layers=LAYERS)

    assert [e.step for e in _life(*(step_report(s, gradients=table, num_steps=10) for s in (9, 19, 29)))] == [29]


@pytest.mark.parametrize("norms", [(0.0, 0.0, 0.0), (NAN, NAN, NAN), (1.0, 1e-30, 1.0)])
def test_nothing_is_dead_where_none_trains_or_all_do(norms: tuple[float, ...]) -> None:
    """Rewards that do not come leave all at zero, and a tiny gradient is one."""
    assert _life(*_steps(100, norms)) == []


@pytest.mark.parametrize(("norm", "num_events"), [(0.0, 0), (NAN, 1)])
def test_empty_shard_is_not_dead(norm: float, num_events: int) -> None:
    """A rank may hold nothing of a small parameter: of its shard only that there is no gradient says something."""
    assert len(_life(*_steps(100, (1.0, norm, 1.0), scope="local_shard"))) == num_events


def test_heads_that_take_turns_are_alive() -> None:
    """Twenty steps without a gradient are not thirty."""
    turns = [(1.0, 2.0, NAN), (1.0, NAN, 2.0)]

    assert _life(*(report for i in range(8) for report in _steps(20, turns[i % 2], 20 * i))) == []


def test_dead_layer_may_die_again() -> None:
    """Once it has had a gradient it is told of anew."""
    dead, alive = (1.0, 0.0, 1.0), (1.0, 1.0, 1.0)

    events = _life(*_steps(40, dead), *_steps(5, alive, 40), *_steps(40, dead, 45))

    assert [event.step for event in events] == [29, 74]


def test_frozen_parameters_are_no_fault() -> None:
    """What asks for no gradient is information, once, and never dead."""
    (event,) = _life(*_steps(100, (NAN, NAN, 1.0), frozen=(0, 1)))

    assert (event.kind, event.severity, event.step, event.layer) == ("frozen_layer", "info", 0, "stem")
    assert event.attributes["layers"] == ["stem", "body"]


def test_gradient_that_vanished_waits_for_a_sample() -> None:
    """Layers may have been frozen since the last sampled step, which knows of it."""
    before, after = _steps(10, (1.0, 1.0, 1.0)), _steps(60, (NAN, 1.0, 1.0), 10)
    sampled = _steps(40, (NAN, 1.0, 1.0), 70, sample=gradient_sample(3, 3))

    assert [event.step for event in _life(*before, *after, *sampled)] == [70]


def test_unreadable_gradients_are_not_dead() -> None:
    """NaN is then not known."""
    assert _life(*_steps(100, (1.0, NAN, 1.0), num_unreadable=1)) == []


def _sampled(*updates: float, rate: float = 0.1, **changes: Any) -> list[StepReport]:
    sample = gradient_sample(3, 3, update_ratios_G=np.array(updates), **changes)
    table = gradient_table((1.0, 1.0, 1.0), layers=LAYERS, sample=sample)
    return [step_report(step, gradients=table, learning_rates=(rate,)) for step in range(0, 50, 10)]


def test_layer_that_does_not_change_is_frozen() -> None:
    """Two sampled steps without an update, though there is a gradient and a rate; told once."""
    (event,) = _life(*_sampled(1e-3, 0.0, 1e-3))

    assert (event.kind, event.severity, event.step, event.layer) == ("frozen_layer", "warning", 10, "body")


@pytest.mark.parametrize(
    "reports",
    [
        _sampled(0.0, 0.0, 0.0),
        _sampled(1e-3, 0.0, 1e-3, rate=0.0),
        _sampled(1e-3, 0.0, 1e-3, rate=1e-9),
        _sampled(1e-3, math.nan, 1e-3),
        _sampled(1e-3, 0.0, 1e-3, zero_ratio_G=np.array([0.0, 1.0, 0.0])),
        _sampled(1e-3, 0.0, 1e-3, subnormal_ratio_P=np.array([0.0, 0.9, 0.0])),
    ],
    ids=["nothing changes", "no rate", "lost to rounding", "not known", "sample without gradient", "underflow"],
)
def test_other_reasons_are_not_frozen(reports: list[StepReport]) -> None:
    """A missing update has to have no other explanation."""
    assert _life(*reports) == []


@pytest.mark.parametrize(("ratio", "is_told"), [(1e-5, True), (1e-3, False)])
def test_early_layers_vanish_against_later_ones(ratio: float, is_told: bool) -> None:
    """Below 1e-4 of what a later layer gets, for thirty steps, told once."""
    events = see(VanishingGradient(VanishingRule()), reports_of(noise(200, sigma=0.1) * np.array([ratio, 1.0, 1.0])))

    assert [(event.kind, event.layer, event.step) for event in events] == (
        [("vanishing_gradient", "stem", 29)] if is_told else []
    )


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1e-9), (1e-12, 1e-12, 1e-12), (0.0, 1.0, 1.0), (NAN, 1.0, 1.0)])
def test_small_gradients_have_not_vanished(scale: tuple[float, ...]) -> None:
    """A converged network, a small last layer, and a layer without any gradient are something else."""
    assert see(VanishingGradient(VanishingRule()), reports_of(noise(100) * np.array(scale))) == []


def test_vanishing_has_to_last() -> None:
    """Twenty steps of it are none."""
    norms_NG = noise(100)
    norms_NG[40:60, 0] = 1e-9

    assert see(VanishingGradient(VanishingRule()), reports_of(norms_NG)) == []


def _sums(num_steps: int, share: float, seed: int) -> list[StepReport]:
    """Return norms of summed gradients that have a common direction by a share."""
    generator = np.random.default_rng(seed)
    common, own = generator.normal(size=(3, 50)), generator.normal(size=(num_steps, 3, 50))
    return reports_of(np.linalg.norm(np.cumsum(share * common + (1 - share) * own, axis=0), axis=2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_summed_gradients_pile_up(share: float, seed: int) -> None:
    """Told once, at the sixteenth step."""
    events = see(AccumulatingGradient(AccumulatingRule()), _sums(100, share, seed))

    assert [(event.kind, event.step) for event in events] == [("accumulating_gradient", 15)]


@pytest.mark.parametrize(
    "growth_N",
    [np.ones(40), 1.15 ** np.arange(40), 2.0 ** np.arange(40), 0.9 ** np.arange(40), np.linspace(1, 3, 40)],
    ids=["steady", "saddle", "explosion", "falls", "slow"],
)
def test_other_growth_does_not_pile_up(growth_N: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    """What grows exponentially, slowly or not at all is no sum."""
    for sigma in (0.0, 0.2):
        assert (
            see(AccumulatingGradient(AccumulatingRule()), reports_of(noise(40, sigma=sigma) * growth_N[:, None])) == []
        )


@pytest.mark.parametrize("changes", [{"micro_steps": 2}, {"num_steps": 2}, {"skipped": "manual"}])
def test_beginning_has_to_be_whole(changes: dict[str, Any]) -> None:
    """Other micro-steps, dropped reports and skipped steps have other sums."""
    reports = _sums(40, 1.0, 0)
    reports[8] = step_report(8, gradients=reports[8].gradients, **changes)

    assert see(AccumulatingGradient(AccumulatingRule()), reports) == []
