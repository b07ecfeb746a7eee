"""The Prometheus exporter: which samples a scrape has after which records."""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from tests.builders import (
    TIME,
    activity_report,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    layer_statistics,
    run_info,
    self_report,
    step_report,
)
from tests.prometheus_server import PrometheusServer
from tests.web import request

from loopscope.activity.counters import Counters
from loopscope.catalog import ACTIVITY_METRICS, EVENT_KINDS, MAX_LAYERS, METRICS, PHASES, metric
from loopscope.records import EXPONENT_LOW, NUM_EXPONENT_BINS, Record
from loopscope_exporters.prometheus import PrometheusExporter
from loopscope_exporters.server import MetricsServer

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
nan, inf = math.nan, math.inf
needs_prometheus = pytest.mark.skipif(
    not PrometheusServer.is_installed(), reason="prometheus is not installed (apt-get install prometheus)"
)


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """A server of its own."""
    server = MetricsServer(port=0)
    server.retain()
    yield server
    server.release()


@pytest.fixture
def exporter(server: MetricsServer) -> Iterator[PrometheusExporter]:
    """An exporter on it."""
    exporter = PrometheusExporter(server)
    yield exporter
    exporter.close()


def export(exporter: PrometheusExporter, *records: Record) -> None:
    """Export the records in their order."""
    for record in records:
        exporter.export(record)


def scrape(server: MetricsServer, accept: str = "text/plain") -> Samples:
    """Scrape and parse, by the parser of the format."""
    text = request(server.url + "/metrics", headers={"Accept": accept}).text
    parse = (
        openmetrics_parser.text_string_to_metric_families if accept == OPENMETRICS else text_string_to_metric_families
    )
    samples: Samples = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} twice"
            samples[key] = sample.value
    return samples


def value(samples: Samples, name: str, agent: str = "model", **labels: str) -> float | None:
    """The sample of one agent with exactly these labels."""
    return samples.get((name, frozenset({"agent": agent, **labels}.items())))


def labels_of(samples: Samples, name: str, label: str) -> set[str]:
    """All values that a label has in a family."""
    return {dict(labels)[label] for family, labels in samples if family == name and label in dict(labels)}


def everything() -> list[Record]:
    """Records after which no family is without a sample."""
    sample = gradient_sample(histogram_GB=np.ones((2, NUM_EXPONENT_BINS), dtype=np.int64), sum_abs=12.0)
    return [
        run_info(),
        step_report(0, tokens=100, num_tokens=100, grad_scale=1024.0, gradients=gradient_table(sample=sample)),
        epoch_report(),
        event(),
        self_report(),
        activity_report(),
    ]


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_a_scrape_shows_what_was_fed(server, exporter, accept):
    """Each value of a report is the value of its sample, in the text format and in OpenMetrics."""
    sample = gradient_sample()
    export(
        exporter, run_info(), step_report(7, grad_scale=512.0, gradients=gradient_table(sample=sample)), self_report()
    )

    samples = scrape(server, accept)

    expected = {
        ("loopscope_steps_total",): 1,
        ("loopscope_micro_steps_total",): 1,
        ("loopscope_samples_total",): 32,
        ("loopscope_step",): 7,
        ("loopscope_epoch",): 0,
        ("loopscope_loss", ("source", "backward")): 2.5,
        ("loopscope_learning_rate", ("group", "0")): 0.1,
        ("loopscope_last_step_timestamp_seconds",): TIME + 0.7,
        ("loopscope_grad_scale",): 512,
        ("loopscope_step_phase_seconds_total", ("phase", "backward")): 0.05,
        ("loopscope_gradient_norm", ("layer", "encoder")): 5.0,  # hypot(3, 4)
        ("loopscope_gradient_norm", ("layer", "head")): 10.0,  # hypot(6, 8)
        ("loopscope_gradient_global_norm", ("stage", "post_clip")): math.sqrt(125),
        ("loopscope_gradient_max_abs", ("layer", "head")): 1.0,
        ("loopscope_gradient_zero_ratio", ("layer", "head")): 0.002,
        ("loopscope_weight_norm", ("layer", "encoder")): 2.0,
        ("loopscope_update_ratio", ("layer", "encoder")): 0.001,
        ("loopscope_overhead_ratio",): 0.008,
        ("loopscope_overhead_seconds_total", ("probe", "worker")): 0.25,
        ("loopscope_sample_interval",): 10,
        ("loopscope_dropped_reports_total",): 3,
        ("loopscope_internal_errors_total", ("part", "gradients")): 1,
        ("loopscope_disabled_parts",): 1,
        ("loopscope_process_memory_bytes",): 1_000_000,
        ("loopscope_process_cpu_seconds_total",): 12.5,
        ("loopscope_series_dropped_total",): 0,
    }  # fmt: skip
    assert {key: value(samples, key[0], **dict(key[1:])) for key in expected} == expected


OF_SHARDS = {"loopscope.gradient.local_squares"}
"""Metrics that only an FSDP2 rank has, instead of norms."""


def test_every_family_of_the_catalog_is_exported(server, exporter):
    """After records with every field filled in, no metric of the catalog is missing and nothing else is there."""
    export(exporter, *everything())

    names = {name for name, _ in scrape(server)}

    bases = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in names}
    assert bases == {entry.prometheus_name for entry in METRICS if entry.name not in OF_SHARDS}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (apt-get install prometheus)")
def test_promtool_accepts_the_page(server, exporter):
    """`promtool check metrics` finds nothing to say about a page with every family."""
    export(exporter, *everything())

    page = request(server.url + "/metrics").body
    check = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False, timeout=30)

    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_counters_exist_from_attach_with_zero(server, exporter):
    """Counters with closed labels are there with 0 before the first step, so that `increase` sees the first one."""
    export(exporter, run_info(layers=("a", "b")))

    samples = scrape(server)

    counters = {
        **{("loopscope_step_phase_seconds_total", "phase", phase): 0 for phase in PHASES},
        **{("loopscope_anomalies_total", "kind", kind.name): 0 for kind in EVENT_KINDS},
        ("loopscope_skipped_steps_total", "reason", "manual"): 0,
        ("loopscope_skipped_steps_total", "reason", "grad_scaler"): 0,
        ("loopscope_gradient_nonfinite_total", "layer", "a"): 0,
        ("loopscope_gradient_nonfinite_total", "layer", "b"): 0,
        ("loopscope_overhead_seconds_total", "probe", "hooks"): 0,
    }
    assert {key: value(samples, key[0], **{key[1]: key[2]}) for key in counters} == counters
    assert value(samples, "loopscope_steps_total") == 0
    assert value(samples, "loopscope_dropped_reports_total") == 0


def test_what_is_unknown_is_absent(server, exporter):
    """Without loss, samples, gradients, scale or duration there is no sample of them, rather than a 0."""
    report = step_report(
        loss=None,
        loss_source=None,
        samples=None,
        num_samples=0,
        gradients=None,
        duration_seconds=None,
        learning_rates=(),
    )
    export(exporter, run_info(), report)

    names = {name for name, _ in scrape(server)}

    absent = {
        "loss",
        "samples_total",
        "tokens_total",
        "learning_rate",
        "grad_scale",
        "gradient_norm",
        "gradient_global_norm",
        "gradient_max_abs",
        "gradient_magnitude_bucket",
        "epoch_loss",
        "overhead_ratio",
    }
    assert names.isdisjoint(f"loopscope_{name}" for name in absent)


def test_a_layer_without_a_gradient_is_absent_and_a_broken_one_is_not(server, exporter):
    """A norm that is NaN for want of a gradient has no sample; one of a non-finite gradient is NaN or +Inf."""
    table = gradient_table(
        (3.0, nan, nan, inf), layers=("fine", "none", "broken", "infinite"), num_nonfinite=(0, 0, 5, 1),
        layer_norms=np.array([3.0, nan, nan, inf]), global_norm=nan,
    )  # fmt: skip
    export(exporter, run_info(layers=table.layers), step_report(gradients=table))

    samples = scrape(server)

    assert value(samples, "loopscope_gradient_norm", layer="fine") == 3.0
    assert value(samples, "loopscope_gradient_norm", layer="none") is None
    assert math.isnan(value(samples, "loopscope_gradient_norm", layer="broken"))
    assert value(samples, "loopscope_gradient_norm", layer="infinite") == inf
    assert math.isnan(value(samples, "loopscope_gradient_global_norm", stage="post_clip"))
    assert value(samples, "loopscope_gradient_nonfinite_total", layer="broken") == 5
    assert value(samples, "loopscope_gradient_nonfinite_total", layer="none") == 0


def test_a_skipped_step_counts_as_skipped_only(server, exporter):
    """A skipped step adds to its reason, to micro-steps, phases and non-finite elements, not to steps or durations."""
    broken = gradient_table((3.0, 4.0, inf, 8.0), num_nonfinite=(0, 0, 2, 0))
    export(exporter, run_info(), step_report(0), step_report(1, skipped="grad_scaler", gradients=broken))

    samples = scrape(server)

    assert value(samples, "loopscope_steps_total") == 1
    assert value(samples, "loopscope_skipped_steps_total", reason="grad_scaler") == 1
    assert value(samples, "loopscope_skipped_steps_total", reason="manual") == 0
    assert value(samples, "loopscope_micro_steps_total") == 2
    assert value(samples, "loopscope_step_duration_seconds_count") == 1
    assert value(samples, "loopscope_step_phase_seconds_total", phase="forward") == pytest.approx(0.06)
    assert value(samples, "loopscope_gradient_nonfinite_total", layer="head") == 2
    assert value(samples, "loopscope_last_step_timestamp_seconds") == TIME


def test_a_report_counts_for_the_steps_it_stands_for(server, exporter):
    """After reports were dropped, counters add what the surviving report carries."""
    carried = step_report(
        9, num_steps=5, num_skipped={"manual": 2}, num_micro_steps=12, num_samples=160, num_tokens=1_000
    )
    export(exporter, run_info(), step_report(4), carried)

    samples = scrape(server)

    assert value(samples, "loopscope_steps_total") == 1 + 5
    assert value(samples, "loopscope_skipped_steps_total", reason="manual") == 2
    assert value(samples, "loopscope_micro_steps_total") == 1 + 12
    assert value(samples, "loopscope_samples_total") == 32 + 160
    assert value(samples, "loopscope_tokens_total") == 1_000


def test_durations_fall_into_the_buckets_up_to_them(server, exporter):
    """A duration counts in every bucket whose bound is not below it."""
    durations = (0.0005, 0.1, 0.1001, 100.0)
    export(exporter, run_info(), *(step_report(step, duration_seconds=d) for step, d in enumerate(durations)))

    samples = scrape(server)

    bounds = (*metric("loopscope.step.duration").buckets, inf)
    name = "loopscope_step_duration_seconds"
    counts = {bound: value(samples, f"{name}_bucket", le="+Inf" if bound == inf else str(bound)) for bound in bounds}
    assert counts == {bound: sum(duration <= bound for duration in durations) for bound in bounds}
    assert value(samples, f"{name}_sum") == pytest.approx(sum(durations))
    assert value(samples, f"{name}_count") == 4


def test_magnitudes_fall_into_the_buckets_above_them(server, exporter):
    """Elements count in the buckets whose bound is above them, over all layers and sampled steps."""
    # Bin 0 is below 2**-64; bin 1 + i begins at 2**(-64 + i).
    elements = {2.0**-65: 1, 2.0**-48: 10, 1.5 * 2.0**-10: 100, 0.75: 1_000, 2.0**20: 10_000, 2.0**40: 100_000}
    bins_GB = np.zeros((2, NUM_EXPONENT_BINS), dtype=np.int64)
    for element, count in elements.items():
        exponent = math.floor(math.log2(element))
        bins_GB[count % 2, min(max(exponent - EXPONENT_LOW + 1, 0), NUM_EXPONENT_BINS - 1)] += count
    table = gradient_table(sample=gradient_sample(histogram_GB=bins_GB, sum_abs=2.5))
    export(exporter, run_info(), step_report(0, gradients=table), step_report(1), step_report(2, gradients=table))

    samples = scrape(server)

    bounds = (*metric("loopscope.gradient.magnitude").buckets, inf)
    name = "loopscope_gradient_magnitude"
    counts = {bound: value(samples, f"{name}_bucket", le="+Inf" if bound == inf else str(bound)) for bound in bounds}
    assert counts == {bound: 2 * sum(n for element, n in elements.items() if element < bound) for bound in bounds}
    assert value(samples, f"{name}_sum") == 5.0
    assert value(samples, f"{name}_count") == 2 * 111_111


def test_gauges_stay_at_the_latest_report_that_had_them(server, exporter):
    """A sampled statistic stays at the latest sampled step, a norm at the latest step with norms."""
    sampled = gradient_table(sample=gradient_sample())
    export(exporter, run_info(), step_report(0, gradients=sampled))
    export(exporter, step_report(1, gradients=gradient_table((6.0, 8.0, 3.0, 4.0))), step_report(2, gradients=None))

    samples = scrape(server)

    assert value(samples, "loopscope_step") == 2
    assert value(samples, "loopscope_gradient_norm", layer="encoder") == 10.0
    assert value(samples, "loopscope_gradient_max_abs", layer="encoder") == 0.5


def test_clipping_is_shown_by_two_stages(server, exporter):
    """`pre_clip` is there for a clipped step and gone after one that was not."""
    export(exporter, run_info(), step_report(0, gradients=gradient_table(global_norm=1.0, global_norm_pre_clip=9.0)))
    clipped = scrape(server)
    export(exporter, step_report(1))
    unclipped = scrape(server)

    assert value(clipped, "loopscope_gradient_global_norm", stage="pre_clip") == 9.0
    assert value(clipped, "loopscope_gradient_global_norm", stage="post_clip") == 1.0
    assert value(unclipped, "loopscope_gradient_global_norm", stage="pre_clip") is None


def test_an_epoch_shows_its_statistics(server, exporter):
    """The last epoch's statistics are gauges by layer; a layer that never had a gradient is left out."""
    statistics = layer_statistics(mean=np.array([5.0, nan]), max=np.array([9.0, nan]))
    export(exporter, run_info(), epoch_report(3, gradients=statistics))

    samples = scrape(server)

    assert value(samples, "loopscope_epoch_gradient_norm", layer="encoder", stat="max") == 9.0
    assert value(samples, "loopscope_epoch_gradient_norm", layer="head", stat="p95") == 16.0
    assert value(samples, "loopscope_epoch_gradient_norm", layer="head", stat="max") is None
    assert value(samples, "loopscope_epoch_loss", weighting="samples") == 1.25
    assert value(samples, "loopscope_epoch_duration_seconds") == 1.5


def test_anomalies_count_warnings_and_worse(server, exporter):
    """Events of severity info are no anomalies; a kind that the catalog does not know gets its own series."""
    events = [event("nonfinite_loss", severity) for severity in ("info", "warning", "critical", "critical")]
    export(exporter, run_info(), *events, event("home_made", "warning"))

    samples = scrape(server)

    assert value(samples, "loopscope_anomalies_total", kind="nonfinite_loss") == 3
    assert value(samples, "loopscope_anomalies_total", kind="home_made") == 1


def test_rank_and_optimizer_are_labels_where_they_exist(server, exporter):
    """A distributed agent's series bear its rank, and those of a named optimizer its name."""
    export(exporter, run_info(rank=3), step_report(rank=3, optimizer="critic"))

    samples = scrape(server)

    assert value(samples, "loopscope_steps_total", rank="3", optimizer="critic") == 1
    assert value(samples, "loopscope_gradient_norm", rank="3", optimizer="critic", layer="head") == 10.0
    assert value(samples, "loopscope_anomalies_total", rank="3", kind="nonfinite_loss") == 0


def test_named_optimizers_take_the_place_of_the_unnamed_one(server, exporter):
    """The zeros that stood for a single optimizer go when the first named one reports."""
    export(exporter, run_info(), step_report(0, optimizer="generator"), step_report(0, optimizer="critic"))

    samples = scrape(server)

    assert labels_of(samples, "loopscope_steps_total", "optimizer") == {"generator", "critic"}
    assert value(samples, "loopscope_steps_total") is None
    assert value(samples, "loopscope_gradient_nonfinite_total", layer="head") is None
    assert value(samples, "loopscope_gradient_nonfinite_total", layer="head", optimizer="critic") == 0


def test_optimizers_beyond_the_bound_are_joined(server, exporter):
    """Four optimizers have their names; what further ones do is counted under `other`."""
    export(exporter, run_info(), *(step_report(0, optimizer=f"optimizer-{index}") for index in range(6)))

    samples = scrape(server)

    expected = {f"optimizer-{index}" for index in range(4)} | {"other"}
    assert labels_of(samples, "loopscope_steps_total", "optimizer") == expected
    assert value(samples, "loopscope_steps_total", optimizer="other") == 2


def test_series_beyond_the_bound_are_counted_once(server, exporter):
    """The 65th layer and the 9th parameter group have no series; each left-out series counts once, ever."""
    layers = tuple(f"layer{index:02}" for index in range(MAX_LAYERS + 1))
    report = step_report(gradients=gradient_table([1.0] * len(layers), layers=layers), learning_rates=(0.1,) * 9)
    export(exporter, run_info(layers=layers), report, report)

    scrape(server)
    samples = scrape(server)

    assert labels_of(samples, "loopscope_gradient_norm", "layer") == set(layers[:MAX_LAYERS])
    assert labels_of(samples, "loopscope_learning_rate", "group") == {str(group) for group in range(8)}
    # The norm and the non-finite counter of the layer, and the learning rate.
    assert value(samples, "loopscope_series_dropped_total") == 3


def every_combination() -> Counters:
    """Counters of 100 lines and frames with each value of their closed labels."""
    counters = Counters()
    for entry in ACTIVITY_METRICS:
        closed = [(value,) for value in entry.values] or [()]
        num_open = len(entry.labels) - bool(entry.values)
        for number, last in itertools.product(range(100 if num_open else 1), closed):
            counters.add(entry.name, (f"train.py:{number}",) * num_open + last)
    return counters


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: entry.name)
def test_no_family_exceeds_the_bound_of_the_catalog(server, exporter, entry):
    """Whatever is fed in, a family has at most the series that the catalog states."""
    layers = tuple(f"layer{index}" for index in range(100))
    sample = gradient_sample(100, 100)
    export(exporter, run_info(layers=layers))
    for index in range(7):
        name = f"optimizer-{index}"
        scope = "local_shard" if entry.name in OF_SHARDS else "full"
        table = gradient_table([1.0] * 100, layers=layers, sample=sample, global_norm_pre_clip=2.0, scope=scope)
        rates = (0.1,) * 20
        export(
            exporter, step_report(optimizer=name, gradients=table, learning_rates=rates, grad_scale=1.0, num_tokens=1)
        )
        export(exporter, epoch_report(optimizer=name, gradients=layer_statistics(layers)))
    export(exporter, *(event(f"kind-{index}") for index in range(100)))
    export(exporter, self_report(internal_errors={f"part-{index}": 1 for index in range(100)}))
    export(exporter, activity_report(every_combination().snapshot()))

    base = entry.prometheus_name
    family = [name for name, _ in scrape(server) if name in {base, f"{base}_bucket", f"{base}_sum", f"{base}_count"}]

    assert 0 < len(family) <= entry.bound


@pytest.mark.parametrize("layer", ['a"b\\c\nd', "слой.κόσμος", "🦜", "\x00\x1f", "{x=y}", "a,b", ""])
@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_any_text_is_a_label_value(server, exporter, layer, accept):
    """Quotes, newlines, other scripts and control characters come back as they were."""
    table = gradient_table((1.0,), layers=(layer,))
    export(exporter, run_info(layers=(layer,)), step_report(gradients=table))

    assert labels_of(scrape(server, accept), "loopscope_gradient_norm", "layer") == {layer}


def test_a_lone_surrogate_does_not_break_the_scrape(server, exporter):
    """Text that UTF-8 cannot carry is shown with question marks."""
    export(exporter, run_info(), step_report(gradients=gradient_table((1.0,), layers=("x\ud800y",))))

    assert labels_of(scrape(server), "loopscope_gradient_norm", "layer") == {"x?y"}


def test_agents_share_one_page_with_each_family_once(server, exporter):
    """Two agents of a server are told apart by their label; HELP and TYPE stand once."""
    second = PrometheusExporter(server)
    export(exporter, run_info(agent="a"), step_report(1, agent="a"))
    export(second, run_info(agent="b"), step_report(2, agent="b"), step_report(3, agent="b"))

    text = request(server.url + "/metrics").text
    samples = scrape(server, OPENMETRICS)
    second.close()

    assert text.count("# TYPE loopscope_steps_total counter\n") == 1
    assert value(samples, "loopscope_steps_total", agent="a") == 1
    assert value(samples, "loopscope_steps_total", agent="b") == 2


def test_a_closed_agent_leaves_the_page(server, exporter):
    """After close its series are gone and those of the others stay; closing twice is closing once."""
    second = PrometheusExporter(server)
    export(exporter, run_info(agent="a"))
    export(second, run_info(agent="b"))

    second.close()
    second.close()

    assert labels_of(scrape(server), "loopscope_steps_total", "agent") == {"a"}


def test_the_last_exporter_closes_the_server():
    """The server ends with its last exporter, not before."""
    server = MetricsServer(port=0)
    first, second = PrometheusExporter(server), PrometheusExporter(server)

    first.close()
    assert not server.is_closed
    second.close()

    assert server.is_closed


def test_the_default_registry_is_left_alone(exporter):
    """Our families are not in the user's registry, and the user's counters keep their `_created` samples."""
    export(exporter, *everything())
    registry = CollectorRegistry()
    Counter("users_own", "A counter of the user.", registry=registry).inc()

    assert "loopscope" not in generate_latest(REGISTRY).decode()
    assert "users_own_created" in generate_latest(registry).decode()


def test_our_page_has_no_created_samples(server, exporter):
    """`_created` would be one more series for each counter and histogram."""
    export(exporter, *everything())

    assert "_created" not in request(server.url + "/metrics").text


def test_a_scrape_can_ask_for_some_families(server, exporter):
    """`?name[]=` restricts the page, as with prometheus_client's own registries."""
    export(exporter, *everything())

    text = request(server.url + "/metrics?name[]=loopscope_steps_total&name[]=loopscope_loss").text

    assert {family.name for family in text_string_to_metric_families(text)} == {"loopscope_steps", "loopscope_loss"}


def test_a_scrape_never_mixes_two_steps(server, exporter):
    """While steps pour in, loss, rate, norms and counters of a scrape agree, and counters never fall."""
    export(exporter, run_info())
    has_ended = threading.Event()

    def pour() -> None:
        step = 0
        while not has_ended.is_set():
            step += 1
            table = gradient_table((float(step),), layers=("layer",), global_norm=float(step))
            exporter.export(step_report(step, loss=float(step), learning_rates=(float(step),), gradients=table))

    thread = threading.Thread(target=pour)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        seen = [scrape(server) for _ in range(100)]
    finally:
        has_ended.set()
        thread.join()
        sys.setswitchinterval(interval)

    names = {
        "loopscope_step",
        "loopscope_loss",
        "loopscope_learning_rate",
        "loopscope_gradient_norm",
        "loopscope_gradient_global_norm",
        "loopscope_steps_total",
        "loopscope_step_duration_seconds_count",
    }
    mixes = [{number for (name, _), number in samples.items() if name in names} - {0.0} for samples in seen]
    assert all(len(mix) <= 1 for mix in mixes), mixes
    steps = [max(mix, default=0.0) for mix in mixes]
    assert steps == sorted(steps)
    assert steps[-1] > 0


def test_closing_during_scrapes_breaks_none(server):
    """Agents come and go while the page is scraped: every answer is a whole page."""
    has_ended = threading.Event()

    def come_and_go() -> None:
        while not has_ended.is_set():
            exporter = PrometheusExporter(server)
            export(exporter, *everything())
            exporter.close()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        answers = [request(server.url + "/metrics", headers={"Accept": OPENMETRICS}) for _ in range(30)]
    finally:
        has_ended.set()
        thread.join()

    assert {answer.status for answer in answers if answer.text.endswith("# EOF\n")} == {200}
    assert server.num_faults == 0


@needs_prometheus
def test_a_real_prometheus_reads_the_values(server, exporter, tmp_path):
    """Queries of a real Prometheus return exactly what was fed, before and after further steps."""
    broken = gradient_table((3.0, 4.0, inf, 8.0), num_nonfinite=(0, 0, 2, 0))
    export(exporter, run_info(rank=0), *(step_report(step, rank=0) for step in range(5)))

    with PrometheusServer(tmp_path, [f"127.0.0.1:{server.port}"]) as prometheus:
        prometheus.wait_for("loopscope_steps_total == 5")
        # The step last: once it is scraped, so are the others.
        export(exporter, epoch_report(rank=0), event(rank=0), step_report(5, rank=0, gradients=broken, loss=0.1))
        prometheus.wait_for("loopscope_steps_total == 6")
        results = {
            expression: list(prometheus.query(expression).values())
            for expression in (
                "loopscope_loss{source='backward'}",
                "loopscope_gradient_norm{layer='encoder'}",
                "loopscope_gradient_norm{layer='head'}",
                "loopscope_gradient_nonfinite_total{layer='head', rank='0'}",
                "loopscope_anomalies_total{kind='nonfinite_gradient'}",
                "loopscope_step_duration_seconds_bucket{le='0.1'}",
                "loopscope_epoch_gradient_norm{layer='head', stat='max'}",
                "count(loopscope_run_info{run='run-1', torch='2.13.0'})",
                "sum(increase(loopscope_gradient_nonfinite_total[1m])) > bool 0",
            )
        }

    assert list(results.values()) == [[0.1], [5.0], [inf], [2.0], [1.0], [6.0], [18.0], [1.0], [1.0]]


@needs_prometheus
def test_a_real_prometheus_forgets_a_closed_agent(server, exporter, tmp_path):
    """When an agent closes, its series become stale at the next scrape, while the other's stay."""
    second = PrometheusExporter(server)
    export(exporter, run_info(agent="a"))
    export(second, run_info(agent="b"))

    with PrometheusServer(tmp_path, [f"127.0.0.1:{server.port}"]) as prometheus:
        prometheus.wait_for("count(loopscope_steps_total) == 2")
        second.close()
        prometheus.wait_for("count(loopscope_steps_total) == 1")

        assert set(prometheus.query("loopscope_steps_total{agent='a'}").values()) == {0.0}
