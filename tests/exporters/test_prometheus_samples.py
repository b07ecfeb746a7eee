"""Laws of a scrape's samples: which are there after which records, with which values, and which are absent."""

from __future__ import annotations

import math
import shutil
import subprocess

import numpy as np
import pytest
from tests.builders import (
    TIME,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    layer_statistics,
    run_info,
    self_report,
    step_report,
)
from tests.scraping import OF_SHARDS, OPENMETRICS, everything, export, scrape, value
from tests.web import request

from loopscope.catalog import EVENT_KINDS, METRICS, PHASES, metric
from loopscope.records import EXPONENT_LOW, NUM_EXPONENT_BINS

nan, inf = math.nan, math.inf


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
