"""Laws of the metrics: totals that lose nothing, series that end, histograms of either kind, links to spans."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests import builders
from tests.otlp_messages import Sender, metrics_of
from tests.otlp_receiver import attributes_of

from loopscope.catalog import metric
from loopscope.records import EXPONENT_LOW, NUM_EXPONENT_BINS
from loopscope_exporters.otlp.answers import Outcome
from loopscope_exporters.otlp.spans import Spans

DELTA = {"METRICS_TEMPORALITY_PREFERENCE": "delta"}
EXPLICIT = {"METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram"}
CUMULATIVE_VALUE, DELTA_VALUE = 2, 1
NO_VALUE = 1
"""The flag of a point that ends its series."""


def points_of(sent, name):
    """Return the points of a metric, none where it was not sent."""
    if name not in sent:
        return []
    return list(getattr(sent[name], sent[name].WhichOneof("data")).data_points)


def only(sent, name):
    """Return the one point of a metric."""
    (point,) = points_of(sent, name)
    return point


def incident_of(report):
    """Return the incident at a step that has one."""
    _, incident = Spans(builders.run_info()).step(report)
    return incident


def test_unknown_is_absent():
    """What is not known is not sent at all, and is never 0."""
    sent = metrics_of([builders.run_info(), builders.step_report(1, loss=None, gradients=None, grad_scale=None)])

    for name in ("loopscope.loss", "loopscope.gradient.norm", "loopscope.grad_scale", "loopscope.gradient.magnitude"):
        assert points_of(sent, name) == []
    assert only(sent, "loopscope.step").as_double == 1


def test_nonfinite_values_are_sent_as_they_are():
    """A gradient that is infinite or NaN has that value; OTLP carries both."""
    table = builders.gradient_table(
        (math.inf, 1.0, math.nan, 1.0), num_nonfinite=(1, 0, 1, 0), layer_norms=np.array([math.inf, math.nan])
    )
    sent = metrics_of([builders.run_info(), builders.step_report(1, gradients=table)])
    norms = {attributes_of(point)["layer"]: point.as_double for point in points_of(sent, "loopscope.gradient.norm")}

    assert norms["encoder"] == math.inf
    assert math.isnan(norms["head"])


@pytest.mark.parametrize(("is_ranked", "expected"), [(False, {}), (True, {"rank": "3"})])
def test_labels_are_those_of_prometheus(is_ranked, expected):
    """A point has the labels that the series has in Prometheus: `agent`, `rank` when distributed, its own."""
    run = builders.run_info(rank=3 if is_ranked else None)
    sent = metrics_of([run, builders.step_report(1, optimizer="adam")])

    assert attributes_of(only(sent, "loopscope.steps")) == {"agent": "model", "optimizer": "adam", **expected}


def test_a_gauge_that_is_gone_ends_once():
    """A series that is no more is ended by one point without a value, which is repeated until it is delivered."""
    sender = Sender()
    sender.turn(builders.step_report(1, grad_scale=1024.0))
    values = [
        [(point.as_double, point.flags) for point in points_of(sent, "loopscope.grad_scale")]
        for sent in (
            sender.turn(builders.step_report(2, grad_scale=None), outcome=Outcome.RETRY),
            sender.turn(),
            sender.turn(),
            sender.turn(builders.step_report(3, grad_scale=512.0)),
        )
    ]

    assert values == [[(0.0, NO_VALUE)], [(0.0, NO_VALUE)], [], [(512.0, 0)]]


def test_series_without_the_name_of_an_optimizer_end():
    """When the first report has the name of an optimizer, the series that stood in for it end, histograms too."""
    sender = Sender()
    sender.turn()
    sent = sender.turn(builders.step_report(1, optimizer="adam"))

    for name in ("loopscope.steps", "loopscope.step.duration"):
        flags = {attributes_of(point).get("optimizer"): point.flags for point in points_of(sent, name)}
        assert flags == {None: NO_VALUE, "adam": 0}


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.REFUSED])
def test_counters_are_cumulative(outcome):
    """By default counters count from the start of the run, whatever became of the requests before."""
    sender = Sender()
    for step in range(3):
        sender.time = 10.0 + step
        point = only(
            sender.turn(builders.step_report(step), outcome=outcome if step == 1 else Outcome.DELIVERED),
            "loopscope.steps",
        )

        assert point.as_double == step + 1
        assert point.start_time_unix_nano == sender.start
        assert point.time_unix_nano == sender.start + (10 + step) * 10**9


def test_deltas_add_up():
    """With delta temporality each delivered point begins where the one before ended; what failed is in the next."""
    sender = Sender(**DELTA)
    outcomes = [Outcome.DELIVERED, Outcome.RETRY, Outcome.REFUSED, Outcome.DELIVERED, Outcome.DELIVERED]
    found = []
    for step, outcome in enumerate(outcomes):
        sender.time = float(step)
        sent = sender.turn(builders.step_report(step, duration_seconds=0.5 + step), outcome=outcome)
        duration = only(sent, "loopscope.step.duration")
        found.append(
            (
                only(sent, "loopscope.steps").as_double,
                duration.count,
                duration.sum,
                (duration.start_time_unix_nano - sender.start) // 10**9,
            )
        )
        assert sent["loopscope.steps"].sum.aggregation_temporality == DELTA_VALUE
        assert sent["loopscope.step.duration"].exponential_histogram.aggregation_temporality == DELTA_VALUE

    assert found == [(1, 1, 0.5, 0), (1, 1, 1.5, 0), (2, 2, 4.0, 0), (3, 3, 7.5, 0), (1, 1, 4.5, 3)]


@pytest.mark.parametrize("variables", [{}, EXPLICIT], ids=["exponential", "explicit"])
def test_low_memory_means_deltas_of_histograms_only(variables):
    """`lowmemory` is delta for histograms and cumulative for counters."""
    sender = Sender(METRICS_TEMPORALITY_PREFERENCE="lowmemory", **variables)
    sender.turn(builders.step_report(0))
    sent = sender.turn(builders.step_report(1))

    assert only(sent, "loopscope.steps").as_double == 2
    assert only(sent, "loopscope.step.duration").count == 1
    assert sent["loopscope.steps"].sum.aggregation_temporality == CUMULATIVE_VALUE


def test_durations_are_an_exponential_histogram():
    """Every step that was taken is counted once, in a bucket around its duration; a skipped one is not."""
    durations = [0.02, 0.021, 0.5]
    reports = [builders.step_report(step, duration_seconds=seconds) for step, seconds in enumerate(durations)]
    skipped = builders.step_report(3, skipped="manual", duration_seconds=9.0)
    point = only(metrics_of([builders.run_info(), *reports, skipped]), "loopscope.step.duration")

    assert (point.count, point.sum) == (3, pytest.approx(sum(durations)))
    assert (point.min, point.max) == (0.02, 0.5)
    base = 2 ** (2.0**-point.scale)
    for index, count in enumerate(point.positive.bucket_counts, point.positive.offset):
        assert count == sum(base**index < seconds <= base ** (index + 1) for seconds in durations)


def test_magnitudes_are_an_exponential_histogram():
    """The magnitudes of sampled elements are counted at scale 0, zero and what is below 2**-64 apart."""
    bins = np.zeros((2, NUM_EXPONENT_BINS), dtype=np.int64)
    bins[:, 0] = 1
    bins[0, 1 - EXPONENT_LOW - 10] = 4  # [2**-10, 2**-9)
    sample = builders.gradient_sample(histogram_GB=bins, sum_abs=0.005)
    report = builders.step_report(1, gradients=builders.gradient_table(sample=sample))
    point = only(metrics_of([builders.run_info(), report]), "loopscope.gradient.magnitude")

    assert (point.scale, point.positive.offset, list(point.positive.bucket_counts)) == (0, -10, [4])
    assert (point.zero_count, point.zero_threshold, point.count, point.sum) == (2, 2.0**-64, 6, 0.005)
    assert not point.HasField("min")


def test_explicit_buckets_where_they_are_asked_for():
    """OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION chooses the buckets of Prometheus."""
    sent = metrics_of([builders.run_info(), builders.step_report(1, duration_seconds=0.02)], **EXPLICIT)
    point = only(sent, "loopscope.step.duration")

    assert tuple(point.explicit_bounds) == metric("loopscope.step.duration").buckets
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert point.bucket_counts[list(point.explicit_bounds).index(0.025)] == 1
    assert (point.count, point.sum) == (1, 0.02)


def test_optimizers_without_series_of_their_own():
    """The histograms of the optimizers that share the label `other` are one; no step is lost."""
    names = [f"optimizer-{index}" for index in range(9)]
    reports = [builders.step_report(step, optimizer=names[step % 9]) for step in range(18)]
    sent = metrics_of([builders.run_info(), *reports])
    counts = {attributes_of(point)["optimizer"]: point.count for point in points_of(sent, "loopscope.step.duration")}
    steps = {attributes_of(point)["optimizer"]: point.as_double for point in points_of(sent, "loopscope.steps")}

    assert counts == steps
    assert sum(counts.values()) == 18
    assert counts["other"] > 2


def test_the_last_request_has_what_is_new():
    """A line that is new shows 0 at first, for the sake of rates; in the last request its count, as none follows."""
    counters = {"loopscope.device.syncs": {("train.py:7", "item"): 5.0}}
    sender = Sender()
    sender.turn()
    sent = sender.turn(builders.activity_report(counters), is_last=True)

    assert [point.as_double for point in points_of(sent, "loopscope.device.syncs")] == [5.0]


def test_exemplars_lead_to_the_span():
    """A step with an incident is an exemplar of its duration and of the count of its events, with its span's id."""
    sender = Sender()
    event = builders.event("nonfinite_gradient", step=7)
    report = builders.step_report(7, events=(event,), duration_seconds=0.25)
    incident = incident_of(report)
    sender.metrics.add_incident(incident)
    sender.metrics.add_incident(incident, event)
    lost = sender.turn(report, event, outcome=Outcome.RETRY)
    sent, after = sender.turn(), sender.turn()

    for metrics in (lost, sent):
        (exemplar,) = only(metrics, "loopscope.step.duration").exemplars
        assert (exemplar.trace_id, exemplar.span_id) == (incident.trace_id, incident.span_id)
        assert exemplar.as_double == 0.25
        assert [pair.value.int_value for pair in exemplar.filtered_attributes] == [7]
        (point,) = [
            point
            for point in points_of(metrics, "loopscope.anomalies")
            if attributes_of(point)["kind"] == "nonfinite_gradient"
        ]
        assert [exemplar.span_id for exemplar in point.exemplars] == [incident.span_id]
    assert not only(after, "loopscope.step.duration").exemplars


@pytest.mark.parametrize(
    "variables", [{"OTEL_METRICS_EXEMPLAR_FILTER": "always_off"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
def test_no_exemplars_without_spans(variables):
    """Exemplars are left out where they are switched off, and where their spans are not sent."""
    sender = Sender(**variables)
    report = builders.step_report(7, events=(builders.event(step=7),))
    sender.metrics.add_incident(incident_of(report))

    assert not only(sender.turn(report), "loopscope.step.duration").exemplars


def test_exemplars_are_bounded():
    """A run with an incident at every step keeps the latest exemplars only."""
    sender = Sender()
    for step in range(100):
        sender.metrics.add_incident(incident_of(builders.step_report(step, events=(builders.event(step=step),))))
    exemplars = only(sender.turn(builders.step_report(1)), "loopscope.step.duration").exemplars

    assert [pair.value.int_value for exemplar in exemplars for pair in exemplar.filtered_attributes] == list(
        range(92, 100)
    )
