"""Laws of the spans: an epoch is a trace, with its windows and its steps with an incident; other steps have none."""

from __future__ import annotations

import pytest
from tests import builders
from tests.otlp_receiver import attributes_of

from loopscope_exporters.otlp.spans import Spans

RUN = builders.run_info(rank=1)
ERROR = 2


@pytest.fixture
def spans():
    """The spans of a run."""
    return Spans(RUN)


def critical(step, **changes):
    """Return the report of a step with a critical event."""
    return builders.step_report(step, events=(builders.event(step=step),), **changes)


@pytest.mark.parametrize("severities", [(), ("info",), ("info", "info")])
def test_no_span_without_an_incident(spans, severities):
    """A step without an incident has no span; an event that is for information only is none."""
    events = tuple(builders.event(severity=severity) for severity in severities)

    assert spans.step(builders.step_report(1, events=events)) is None


def test_a_step_with_incidents(spans):
    """Its span lasts as long as the step, tells of it, and has each event as a span event."""
    events = (builders.event(severity="info"), builders.event("gradient_spike", severity="warning", value=9.0))
    span, incident = spans.step(builders.step_report(5, events=events, duration_seconds=0.25))
    attributes = attributes_of(span)

    assert span.name == "step"
    assert span.end_time_unix_nano - span.start_time_unix_nano == 0.25e9
    assert (attributes["step"], attributes["loss"], attributes["rank"]) == (5, 2.5, 1)
    assert attributes["phase.backward"] == 0.05
    assert [event.name for event in span.events] == ["loopscope.nonfinite_gradient", "loopscope.gradient_spike"]
    assert attributes_of(span.events[1])["value"] == 9.0
    assert attributes_of(span.events[1])["message"] == events[1].message
    assert span.status.code == 0
    assert (span.trace_id, span.span_id) == (incident.trace_id, incident.span_id)


def test_a_critical_incident_is_an_error(spans):
    """The span of a step with a critical event has the status of an error, and says which."""
    report = critical(5)
    span, _ = spans.step(report)

    assert (span.status.code, span.status.message) == (ERROR, report.events[0].message)


def test_an_epoch_is_the_root_of_its_steps(spans):
    """Steps and windows are children of the epoch they are in, which is the root of a trace of its own."""
    first, _ = spans.step(critical(1, epoch=0))
    window = spans.epoch(builders.epoch_report(0, kind="window", window=0))
    epoch = spans.epoch(builders.epoch_report(0))
    second, _ = spans.step(critical(11, epoch=1))

    assert (epoch.name, window.name, epoch.parent_span_id) == ("epoch", "window", b"")
    assert first.parent_span_id == window.parent_span_id == epoch.span_id
    assert first.trace_id == window.trace_id == epoch.trace_id
    assert second.trace_id != epoch.trace_id
    assert second.parent_span_id != epoch.span_id
    assert len({span.span_id for span in (first, window, epoch, second)}) == 4


def test_an_epoch_spans_its_steps(spans):
    """An epoch begins with its first step, however long validation took; its windows follow each other."""
    step, _ = spans.step(critical(0, duration_seconds=0.1))
    begin = step.start_time_unix_nano
    windows = [
        spans.epoch(builders.epoch_report(0, kind="window", window=index, time_unix_seconds=builders.TIME + 10 + index))
        for index in range(2)
    ]
    epoch = spans.epoch(builders.epoch_report(0, time_unix_seconds=builders.TIME + 20, duration_seconds=1.5))

    assert begin == windows[0].start_time_unix_nano == epoch.start_time_unix_nano
    assert windows[1].start_time_unix_nano == windows[0].end_time_unix_nano
    assert epoch.end_time_unix_nano == (builders.TIME + 20) * 1e9
    assert attributes_of(epoch)["duration_seconds"] == 1.5


def test_an_epoch_that_has_not_ended(spans):
    """At the end the epoch under way has a span as well, so that no step is without its parent; once."""
    step, _ = spans.step(critical(3))
    (epoch,) = spans.close()

    assert (epoch.span_id, epoch.trace_id) == (step.parent_span_id, step.trace_id)
    assert attributes_of(epoch)["is_complete"] is False
    assert spans.close() == []


def test_optimizers_have_traces_of_their_own(spans):
    """Two optimizers of an agent number their epochs by themselves."""
    first, _ = spans.step(critical(1, optimizer="generator"))
    second, _ = spans.step(critical(1, optimizer="critic"))

    assert first.trace_id != second.trace_id
    assert first.span_id != second.span_id


def test_runs_have_traces_of_their_own():
    """The same step of another rank, agent or start has other ids; of the same run the same."""
    runs = [
        RUN,
        builders.run_info(rank=0),
        builders.run_info(rank=1, agent="model-2"),
        builders.run_info(rank=1, time_unix_seconds=builders.TIME + 1),
    ]
    traces = {Spans(run).step(critical(1))[0].trace_id for run in runs}

    assert len(traces) == 4
    assert Spans(RUN).step(critical(1))[0].trace_id in traces


def test_events_find_their_step(spans):
    """An event is tied to the span of its step, also where it does not say which optimizer stepped."""
    _, incident = spans.step(critical(4, optimizer="adam"))

    assert spans.incident(builders.event(step=4, optimizer="adam")) == incident
    assert spans.incident(builders.event(step=4)) == incident
    assert spans.incident(builders.event(step=4, optimizer="sgd")) is None
    assert spans.incident(builders.event(step=5)) is None


def test_what_is_remembered_is_bounded(spans):
    """A run of ten thousand epochs that never end, each with an incident, does not grow for ever."""
    for step in range(10_000):
        spans.step(critical(step, epoch=step))

    assert len(spans.close()) == 64
    assert spans.incident(builders.event(step=0)) is None
