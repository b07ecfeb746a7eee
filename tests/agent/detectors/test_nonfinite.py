"""Laws of the non-finite detectors: an incident opens once, gets worse at most, closes, and names its first cause."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.builders import epoch_report, gradient_table, step_report

from loopscope.detectors.nonfinite import (
    FINITE_STEPS_TO_CLOSE,
    MAX_FIRST_SCALER_SKIPS,
    MAX_SCALER_SKIPS,
    NonfiniteGradient,
    NonfiniteLoss,
)
from loopscope.protocols import Detector
from loopscope.records import Event, NonfiniteOrigin, StepReport

NAN, INF = math.nan, math.inf
LAYERS = ("stem", "body", "head")
BAD = gradient_table((1.0, NAN, NAN), layers=LAYERS, num_nonfinite=(0, 3, 4))
GOOD = gradient_table((1.0, 2.0, 3.0), layers=LAYERS)


def _good(step: int, **changes: Any) -> StepReport:
    return step_report(step, **{"gradients": GOOD, "loss": 1.0} | changes)


def _bad(step: int, **changes: Any) -> StepReport:
    return step_report(step, **{"gradients": BAD, "loss": 1.0} | changes)


def _skipped(step: int, **changes: Any) -> StepReport:
    return _bad(step, **{"skipped": "grad_scaler", "grad_scale": 65_536.0} | changes)


def _see(detector: Detector, *reports: StepReport) -> list[Event]:
    return [event for report in reports for event in detector.see(report)]


@pytest.mark.parametrize("detector", [NonfiniteGradient(), NonfiniteLoss()], ids=["gradient", "loss"])
def test_detectors_keep_the_protocol(detector: Detector) -> None:
    """Both are detectors, and epochs open no incident."""
    assert isinstance(detector, Detector)
    assert list(detector.see(epoch_report())) == []


@pytest.mark.parametrize("detector", [NonfiniteGradient(), NonfiniteLoss()], ids=["gradient", "loss"])
@pytest.mark.parametrize("changes", [{}, {"gradients": None}, {"loss": None}, {"skipped": "manual"}])
def test_healthy_steps_are_silent(detector: Detector, changes: dict[str, Any]) -> None:
    """Finite gradients and losses, or none, open nothing."""
    assert _see(detector, *(_good(step, **changes) for step in range(30))) == []


def test_gradient_event_says_where() -> None:
    """The event names the first non-finite layer in forward order, its first parameter, all layers and elements."""
    (event,) = NonfiniteGradient().see(_bad(12, run="r", agent="a", rank=2, optimizer="critic", epoch=3))

    assert (event.kind, event.severity, event.layer, event.value) == ("nonfinite_gradient", "critical", "body", 7.0)
    assert event.attributes == {"layers": ["body", "head"], "parameter": "body.1.weight", "num_nonfinite": 7}
    assert (event.run, event.agent, event.rank, event.optimizer) == ("r", "a", 2, "critic")
    assert (event.step, event.epoch, event.time_unix_seconds) == (12, 3, step_report(12).time_unix_seconds)
    assert "body" in event.message
    assert event.remedy


def test_parameter_is_one_of_the_layer_that_is_named() -> None:
    """Where parameters of several layers alternate, the parameter still belongs to the first layer."""
    table = gradient_table(
        (NAN, NAN, NAN),
        layers=LAYERS,
        num_nonfinite=(1, 1, 1),
        names=("b", "a", "c"),
        layer_index_P=GOOD.layer_index_P[[1, 0, 2]],
    )

    (event,) = NonfiniteGradient().see(_bad(0, gradients=table))

    assert (event.layer, event.attributes["parameter"]) == ("stem", "a")


@pytest.mark.parametrize(
    ("detector", "changes"),
    [(NonfiniteGradient(), {"gradients": BAD}), (NonfiniteLoss(), {"loss": NAN})],
    ids=["gradient", "loss"],
)
def test_incident_opens_once(detector: Detector, changes: dict[str, Any]) -> None:
    """However long it lasts, an incident is one event."""
    assert len(_see(detector, *(_good(step, **changes) for step in range(100)))) == 1


@pytest.mark.parametrize(("num_finite", "num_events"), [(FINITE_STEPS_TO_CLOSE - 1, 1), (FINITE_STEPS_TO_CLOSE, 2)])
@pytest.mark.parametrize("changes", [{"gradients": BAD}, {"loss": INF}], ids=["gradient", "loss"])
def test_incident_closes_after_ten_finite_steps(changes: dict[str, Any], num_finite: int, num_events: int) -> None:
    """Ten finite steps in a row end an incident, and the next one opens again; nine do not."""
    detector = NonfiniteGradient() if "gradients" in changes else NonfiniteLoss()
    steps = [_good(0, **changes), *(_good(1 + i) for i in range(num_finite)), _good(50, **changes)]

    assert len(_see(detector, *steps)) == num_events


def test_finite_steps_have_to_be_in_a_row() -> None:
    """A non-finite step in between starts the count anew."""
    nearly = [_good(0)] * (FINITE_STEPS_TO_CLOSE - 1)

    assert len(_see(NonfiniteGradient(), _bad(0), *nearly, _bad(0), *nearly, _bad(0))) == 1


def test_steps_without_gradients_close_nothing() -> None:
    """A report without gradients does not say that they are finite."""
    unknown = [_good(0, gradients=None)] * 50

    assert len(_see(NonfiniteGradient(), _bad(0), *unknown, _bad(0))) == 1


def test_optimizers_have_their_own_incidents() -> None:
    """One optimizer's incident neither hides nor closes another's."""
    events = _see(
        NonfiniteGradient(),
        _bad(0, optimizer="generator"),
        _bad(0, optimizer="critic"),
        *(_good(step, optimizer="critic") for step in range(20)),
        _bad(20, optimizer="generator"),
    )

    assert [(event.optimizer, event.step) for event in events] == [("generator", 0), ("critic", 0)]


def test_skip_by_hand_is_a_warning() -> None:
    """The loop left the step out by itself: the weights are unharmed."""
    (event,) = NonfiniteGradient().see(_bad(4, skipped="manual"))

    assert (event.severity, event.layer, event.step) == ("warning", "body", 4)


def test_skip_by_the_grad_scaler_is_for_information() -> None:
    """A GradScaler that finds its scale is healthy; the event names the layers that overflowed."""
    (event,) = NonfiniteGradient().see(_skipped(0))

    assert (event.severity, event.layer, event.attributes["layers"]) == ("info", "body", ["body", "head"])
    assert "65536" in event.message


def test_skip_without_a_table_is_told_all_the_same() -> None:
    """Where the gradients of a skipped step could not be read, the event says what is known: that it was skipped."""
    (event,) = NonfiniteGradient().see(_skipped(0, gradients=None))

    assert (event.severity, event.layer, event.value) == ("info", None, None)
    assert event.attributes == {"layers": [], "parameter": None, "num_nonfinite": 0}


@pytest.mark.parametrize(
    ("num_taken", "limit"),
    [(0, MAX_FIRST_SCALER_SKIPS), (1, MAX_SCALER_SKIPS), (30, MAX_SCALER_SKIPS)],
    ids=["calibration", "early", "later"],
)
def test_scale_that_collapses_is_critical(num_taken: int, limit: int) -> None:
    """5 skips in a row make an incident critical, 16 while the scale is being found; the skip before does not."""
    steps = [*(_good(step) for step in range(num_taken)), *([_skipped(num_taken)] * limit)]

    almost, all_of_them = _see(NonfiniteGradient(), *steps[:-1]), _see(NonfiniteGradient(), *steps)

    assert [event.severity for event in almost] == ["info"]
    assert [event.severity for event in all_of_them] == ["info", "critical"]


def test_skips_have_to_be_in_a_row() -> None:
    """A step that is taken shows that the scale works."""
    steps = [_good(0), *([_skipped(1)] * (MAX_SCALER_SKIPS - 1)), _good(1), *([_skipped(2)] * (MAX_SCALER_SKIPS - 1))]

    assert [event.severity for event in _see(NonfiniteGradient(), *steps)] == ["info"]


def test_skips_whose_reports_were_dropped_count() -> None:
    """A report that stands for five skipped steps and none taken makes the incident critical at once."""
    events = _see(NonfiniteGradient(), _good(0), _skipped(1, num_skipped={"grad_scaler": 5}))

    assert [event.severity for event in events] == ["critical"]


@pytest.mark.parametrize(
    ("num_skipped", "severity"), [({}, "critical"), ({"grad_scaler": 1}, "info"), ({"manual": 1}, "warning")]
)
def test_carried_counts_belong_to_the_dropped_steps(num_skipped: dict[str, int], severity: str) -> None:
    """Counts with a finite norm come from dropped reports: if some of those were skipped, it was on these."""
    table = gradient_table((1.0, 2.0, 3.0), layers=LAYERS, num_nonfinite=(0, 1, 0))

    (event,) = NonfiniteGradient().see(_good(3, gradients=table, num_steps=2, num_skipped=num_skipped))

    assert (event.severity, event.layer) == (severity, "body")


@pytest.mark.parametrize("milder", [_skipped(0), _bad(0, skipped="manual")], ids=["grad_scaler", "manual"])
def test_incident_that_gets_worse_says_so(milder: StepReport) -> None:
    """A step taken with non-finite gradients is news even while a milder incident is open."""
    events = _see(NonfiniteGradient(), milder, _bad(0), milder, _bad(1))

    assert [event.severity for event in events][1:] == ["critical"]


@pytest.mark.parametrize(("loss", "text"), [(NAN, "NaN"), (INF, "infinite"), (-INF, "infinite")])
def test_loss_event_says_what_it_became(loss: float, text: str) -> None:
    """The event of a non-finite loss is critical and tells NaN from infinity."""
    (event,) = NonfiniteLoss().see(_good(5, loss=loss, run="r", optimizer="critic"))

    assert (event.kind, event.severity, event.layer, event.step) == ("nonfinite_loss", "critical", None, 5)
    assert (event.run, event.optimizer, event.attributes) == ("r", "critic", {"loss": str(loss)})
    assert text in event.message


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({"skipped": "grad_scaler", "loss_source": "backward", "loss": INF}, "info"),
        ({"skipped": "grad_scaler", "loss_source": "backward", "loss": NAN}, "critical"),
        ({"skipped": "grad_scaler", "loss_source": "log", "loss": INF}, "critical"),
        ({"skipped": "manual", "loss": NAN}, "warning"),
    ],
)
def test_loss_of_a_skipped_step(changes: dict[str, Any], severity: str) -> None:
    """Infinity may be the scale's own doing on a step that the GradScaler skips; a skip by hand is a warning."""
    (event,) = NonfiniteLoss().see(_good(5, **changes))

    assert event.severity == severity


@pytest.mark.parametrize(
    ("num_bad", "layer"), [(1, "stem"), (2, "body"), (3, "stem")], ids=["stem", "stem and body", "all"]
)
def test_backward_is_followed_to_where_it_broke(num_bad: int, layer: str) -> None:
    """With a finite loss the last of the first layers is named, through which the others' gradients came."""
    norms = [NAN] * num_bad + [1.0] * (3 - num_bad)
    table = gradient_table(norms, layers=LAYERS, num_nonfinite=[1] * num_bad + [0] * (3 - num_bad))

    (event,) = NonfiniteGradient().see(_bad(0, gradients=table))

    assert event.layer == layer
    assert set(event.attributes["layers"]) == set(LAYERS[:num_bad])


@pytest.mark.parametrize(
    ("what", "parameter", "layer", "text"),
    [
        ("input", "stem.0.weight", "stem", "row 3"),
        ("target", None, None, "target"),
        ("weight", "body.1.weight", "body", "body.1.weight"),
        ("operator", "body.1.weight", "body", "log"),
        ("operator", "unknown", None, "log"),
    ],
)
def test_origin_of_the_loss_names_its_layer(what: str, parameter: str | None, layer: str | None, text: str) -> None:
    """Where the forward pass is known to have broken, loss and gradient both name that layer, and the rows."""
    origin = NonfiniteOrigin(what=what, operator="log", parameter=parameter, rows=(3,) if what == "input" else ())
    table = gradient_table((NAN, NAN, NAN), layers=LAYERS, num_nonfinite=(1, 1, 1))
    report = _bad(7, loss=NAN, gradients=table, origin=origin)

    (loss,), (gradient,) = NonfiniteLoss().see(report), NonfiniteGradient().see(report)

    assert (loss.layer, gradient.layer) == (layer, layer or "stem")
    assert text in loss.message
    assert (loss.attributes["origin"], loss.attributes.get("rows")) == (what, [3] if what == "input" else None)
