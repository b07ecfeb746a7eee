"""Laws of the loss: single spikes, divergence, plateaus, and noise that is none of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from tests.builders import step_report
from tests.detecting import see

from loopscope.detectors.loss_bounds import DivergingRule, LossSpikeRule
from loopscope.detectors.losses import LossCourse
from loopscope.detectors.progress import PlateauRule

Losses = npt.NDArray[np.float64]


def _course() -> LossCourse:
    return LossCourse(LossSpikeRule(), DivergingRule(), PlateauRule())


def _told(losses: Losses) -> list[tuple[str, int]]:
    return [(e.kind, e.step) for e in see(_course(), [step_report(i, loss=float(x)) for i, x in enumerate(losses)])]


def _falling(num_steps: int = 300, *, sigma: float = 0.1, seed: int = 0) -> Losses:
    generator = np.random.default_rng(seed)
    return (0.1 + 2.2 * np.exp(-np.arange(num_steps) / 100)) * np.exp(generator.normal(0, sigma, num_steps))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.5, 1.0])
def test_falling_losses_are_silent(sigma: float, seed: int) -> None:
    """With any noise that is log-normal."""
    assert _told(_falling(sigma=sigma, seed=seed)) == []


@pytest.mark.parametrize("seed", range(5))
def test_losses_of_both_signs_are_silent(seed: int) -> None:
    """Policy gradients are noise about zero."""
    assert [kind for kind, _ in _told(np.random.default_rng(seed).normal(0, 3, 250))] == []


@pytest.mark.parametrize("seed", range(5))
def test_growing_returns_are_silent(seed: int) -> None:
    """A noisy objective may grow tenfold in a hundred steps."""
    noise = np.random.default_rng(seed).normal(0, 0.8, 200)

    assert [kind for kind, _ in _told(30 * np.exp(noise + np.linspace(0, 4, 200)))] == []


def test_rewards_that_seldom_come_are_silent() -> None:
    """Where most losses are the same there is no scale to judge the others by."""
    losses = np.where(np.arange(250) % 20 == 19, 0.3, 0.0)
    losses[50:180] = 0.0

    assert _told(losses) == []


@pytest.mark.parametrize(("height", "told"), [(100.0, [("loss_spike", 150)]), (3.0, [])])
def test_spike_is_told_at_its_step(height: float, told: list[tuple[str, int]]) -> None:
    """Far above the window and the start, for one step."""
    losses = _falling()
    losses[150] = height

    assert _told(losses) == told


def test_level_that_stays_up_diverges() -> None:
    """No spike, but a divergence at the tenth step."""
    losses = _falling()
    losses[150:] = 40.0

    assert _told(losses) == [("loss_diverging", 159)]


def test_loss_that_runs_away_diverges_at_once() -> None:
    """Three steps above the bound, each higher than the one before."""
    losses = _falling()
    losses[150:] = 2.0 * 3.0 ** np.arange(150).clip(0, 60)

    ((kind, step),) = _told(losses)

    assert kind == "loss_diverging"
    assert 150 <= step <= 156


def test_divergence_at_the_start_is_told() -> None:
    """Tenfold from step to step, before there is any level."""
    assert _told(10.0 ** np.arange(12))[0][0] == "loss_diverging"


def test_adversaries_may_rise() -> None:
    """Where there are several optimizers a loss tenfold its start is the other's success."""
    course = _course()
    rising = np.concatenate([np.full(50, 0.7), np.full(60, 7.0)])
    reports = [
        step_report(step, optimizer=name, loss=float(loss)) for step, loss in enumerate(rising) for name in ("g", "d")
    ]

    assert see(course, reports) == []


@pytest.mark.parametrize(("level", "told"), [(2.3, ["loss_plateau"]), (0.001, [])], ids=["stuck", "converged"])
def test_plateau_is_information(level: float, told: list[str]) -> None:
    """Hundreds of steps without progress, told once, unless there is nothing left to gain."""
    losses = np.concatenate([np.full(20, 2.3), np.full(900, level)]) + np.random.default_rng(0).normal(
        0, level / 50, 920
    )

    events = see(_course(), [step_report(i, loss=float(loss)) for i, loss in enumerate(losses)])

    assert [event.kind for event in events] == told
    assert all(event.severity == "info" for event in events)


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_steps_without_a_finite_loss_are_left_out(loss: float | None) -> None:
    """They belong to nobody, or to another detector."""
    reports = [step_report(i, loss=loss if i % 5 == 0 else 1.0 + 0.01 * (i % 7)) for i in range(250)]

    assert see(_course(), reports) == []
