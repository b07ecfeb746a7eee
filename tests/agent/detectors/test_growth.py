"""Laws of exploding gradients and spikes: told against a layer's own history, once an incident."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.builders import epoch_report, gradient_sample, gradient_table, step_report
from tests.detecting import noise, reports_of, see

from loopscope.detectors.baseline import ExplodingRule, SpikeRule
from loopscope.detectors.growth import GradientGrowth
from loopscope.protocols import Detector

Norms = npt.NDArray[np.float64]


def _detector() -> GradientGrowth:
    return GradientGrowth(ExplodingRule(), SpikeRule())


def _told(norms_NG: Norms, **changes: Any) -> list[tuple[str, int]]:
    return [(event.kind, event.step) for event in see(_detector(), reports_of(norms_NG, **changes))]


def test_keeps_the_protocol() -> None:
    """It is a detector, and epochs, skipped steps and steps without gradients tell nothing."""
    detector = _detector()

    assert isinstance(detector, Detector)
    assert not detector.see(epoch_report())
    assert not see(detector, [step_report(0, gradients=None), step_report(0, skipped="manual")])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0])
def test_noise_is_silent(seed: int, sigma: float) -> None:
    """Log-normal norms of any spread are no anomaly."""
    assert _told(noise(600, sigma=sigma, seed=seed)) == []


@pytest.mark.parametrize("factor", [0.99, 1.02], ids=["falls", "rises"])
def test_slow_drift_is_silent(factor: float) -> None:
    """A norm that falls by 1 % a step, or grows sevenfold in 100 steps, leaves no range."""
    assert _told(noise(400) * factor ** np.arange(400)[:, None]) == []


def test_growth_by_orders_explodes() -> None:
    """Tripling at every step is told within five steps of its onset, and once more when it is critical."""
    norms_NG = noise(120)
    norms_NG[100:] *= 3.0 ** np.arange(1, 21)[:, None]

    (first, second) = see(_detector(), reports_of(norms_NG))

    assert (first.kind, first.severity) == ("exploding_gradient", "warning")
    assert 100 <= first.step <= 105
    assert (second.kind, second.severity) == ("exploding_gradient", "critical")


def test_explosion_names_the_layer_that_grew() -> None:
    """The first layer in forward order among those that rose most."""
    norms_NG = noise(120)
    norms_NG[100:, 1] *= 10.0 ** np.arange(1, 21)

    assert see(_detector(), reports_of(norms_NG))[0].layer == "body"


def test_level_that_stays_up_explodes() -> None:
    """Fifty times the level is no spike when it stays, and is told at the fifth step."""
    norms_NG = noise(140)
    norms_NG[100:] *= 50.0

    assert _told(norms_NG) == [("exploding_gradient", 104)]


def test_explosion_at_the_start_needs_no_baseline() -> None:
    """A run that grows tenfold from step to step is told within five."""
    assert _told(noise(12) * 10.0 ** np.arange(12)[:, None])[0] in {("exploding_gradient", step) for step in range(6)}


def test_gradient_far_above_the_weights_explodes() -> None:
    """From the first sampled step on, without any history."""
    table = gradient_table((4e6, 3e6), sample=gradient_sample(2, 2, weight_norms_G=np.array([3.0, 4.0])))

    (event,) = see(_detector(), [step_report(0, gradients=table)])

    assert (event.kind, event.layer, event.value) == ("exploding_gradient", "encoder", 5e6)


def test_single_step_is_a_spike() -> None:
    """It is told one step later, with the number, the layer and the severity of its own step."""
    norms_NG = noise(200)
    norms_NG[100, 2] *= 1_000.0

    (event,) = see(_detector(), reports_of(norms_NG))

    assert (event.kind, event.step, event.layer, event.severity) == ("gradient_spike", 100, "head", "warning")


@pytest.mark.parametrize(("height", "is_told"), [(5.0, False), (200.0, True)])
def test_spike_has_to_leave_the_range(height: float, is_told: bool) -> None:
    """What the window has had before, and less than 30 times the median, is none."""
    norms_NG = noise(200)
    norms_NG[100] = height

    assert bool(_told(norms_NG)) is is_told


def test_clipped_spike_is_information() -> None:
    """Norms before clipping are what is judged, and what clipping contained harms nobody."""
    norms_NG = noise(200, sigma=0.1)
    reports = reports_of(norms_NG)
    table = gradient_table((1.0, 1.0, 1.0), layers=("stem", "body", "head"), global_norm_pre_clip=2_000.0)
    reports[100] = step_report(100, gradients=table)

    (event,) = see(_detector(), reports)

    assert (event.kind, event.severity) == ("gradient_spike", "info")


def test_spike_after_a_raised_rate_is_an_explosion() -> None:
    """A learning rate raised a thousandfold just before explains it better than a bad batch."""
    norms_NG = noise(200)
    norms_NG[101] *= 1_000.0
    reports = reports_of(norms_NG, learning_rates=(1e-3,))
    reports[100:] = [step_report(r.step, gradients=r.gradients, learning_rates=(1.0,)) for r in reports[100:]]

    assert [event.kind for event in see(_detector(), reports)] == ["exploding_gradient"]


def test_layer_that_wakes_is_silent() -> None:
    """A layer whose gradient was zero at first may come alive, as adapters and residual branches do."""
    norms_NG = noise(200)
    norms_NG[:50, 1] = 0.0
    norms_NG[50:60, 1] *= np.logspace(-6, 0, 10)

    assert _told(norms_NG) == []


def test_layer_that_leaves_a_plateau_with_the_others_is_silent() -> None:
    """Where the whole gradient grows fifteenfold, the first layer may grow ten thousandfold: it was near zero."""
    rise_N = np.clip((np.arange(300) - 90) / 40, 0.0, 1.0)
    norms_NG = noise(300) * 0.2 * 15.0 ** rise_N[:, None]
    norms_NG[:, 0] *= 1e-4 ** (1.0 - rise_N)
    norms_NG[175:, 0] *= 3.0

    assert _told(norms_NG) == []


def test_rewards_that_seldom_come_are_silent() -> None:
    """Steps with a gradient of exactly zero have no logarithm and say nothing of the others."""
    norms_NG = noise(300, sigma=0.5)
    norms_NG[np.arange(300) % 7 != 0] = 0.0

    assert _told(norms_NG) == []


def test_incident_opens_again_when_it_was_over() -> None:
    """Two spikes 100 steps apart are two incidents, two within 20 steps one."""
    norms_NG = noise(300)
    norms_NG[[100, 200]] *= 1_000.0
    norms_NG[103] *= 50_000.0

    assert _told(norms_NG) == [("gradient_spike", 100), ("gradient_spike", 200)]


def test_nonfinite_steps_are_left_to_others() -> None:
    """NaN and infinity neither open an incident nor spoil the baseline."""
    norms_NG = noise(200)
    norms_NG[90] = np.inf
    norms_NG[120] *= 1_000.0

    assert _told(norms_NG) == [("gradient_spike", 120)]


def test_optimizers_have_histories_of_their_own() -> None:
    """What is usual for one is not measured by the other."""
    detector = _detector()
    low, high = reports_of(noise(100), optimizer="a"), reports_of(noise(100) * 1e6, optimizer="b")

    assert see(detector, [report for pair in zip(low, high, strict=True) for report in pair]) == []


@pytest.mark.parametrize(("exploding", "spike"), [(None, SpikeRule()), (ExplodingRule(), None)])
def test_rules_can_be_off(exploding: ExplodingRule | None, spike: SpikeRule | None) -> None:
    """The other one works on."""
    norms_NG = noise(300)
    norms_NG[100] *= 1_000.0
    norms_NG[200:] *= 1_000.0

    kinds = {event.kind for event in see(GradientGrowth(exploding, spike), reports_of(norms_NG))}

    assert kinds == ({"gradient_spike"} if exploding is None else {"exploding_gradient"})
