"""Laws of series and their labels: who has which, any text can be one, and no family exceeds the catalog's bound."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from tests.activation_tables import activation_table
from tests.builders import (
    activity_report,
    anomaly,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    health_report,
    layer_statistics,
    run_info,
    self_report,
    step_report,
)
from tests.scraping import OF_SHARDS, OPENMETRICS, export, labels_of, scrape, value

from loopscope.activity.counters import Counters
from loopscope.catalog import ACTIVITY_METRICS, HEALTH_STATES, MAX_LAYERS, METRICS
from loopscope_exporters.prometheus import PrometheusExporter
from loopscope_exporters.server import MetricsServer


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
    # The norm and the non-finite counter of the layer, each state of its health, and the learning rate.
    assert value(samples, "loopscope_series_dropped_total") == 3 + len(HEALTH_STATES)


def every_combination() -> Counters:
    """Counters of 100 lines and frames with each value of their closed labels."""
    counters = Counters()
    for entry in ACTIVITY_METRICS:
        closed = [(value,) for value in entry.values] or [()]
        num_open = len(entry.labels) - bool(entry.values)
        for number, last in itertools.product(range(100 if num_open else 1), closed):
            counters.add(entry.name, (f"train.py:{number}",) * num_open + last)
    return counters


def feed_all(exporter: PrometheusExporter, scope: str) -> None:
    """Export more of everything than there are series for."""
    layers = tuple(f"layer{index}" for index in range(100))
    sample = gradient_sample(100, 100)
    table = gradient_table([1.0] * 100, layers=layers, sample=sample, global_norm_pre_clip=2.0, scope=scope)
    export(exporter, run_info(layers=layers))
    for index in range(7):
        step = {"optimizer": f"optimizer-{index}", "gradients": table, "learning_rates": (0.1,) * 20, "num_tokens": 1}
        export(exporter, step_report(grad_scale=1.0, **step))
        export(exporter, epoch_report(optimizer=f"optimizer-{index}", gradients=layer_statistics(layers)))
    export(exporter, *(event(f"kind-{index}") for index in range(100)))
    export(exporter, self_report(internal_errors={f"part-{index}": 1 for index in range(100)}))
    export(exporter, activity_report(every_combination().snapshot()))
    export(exporter, step_report(activations=activation_table(100)))
    export(exporter, health_report(*(anomaly(f"kind-{index}", layers=(layers[index],)) for index in range(100))))


@pytest.fixture(scope="module")
def families() -> dict[str, Counter[str]]:
    """By scope of the gradients, how many series of each name there are then."""
    counted: dict[str, Counter[str]] = {}
    for scope in ("full", "local_shard"):
        server = MetricsServer(port=0)
        server.retain()
        exporter = PrometheusExporter(server)
        feed_all(exporter, scope)
        counted[scope] = Counter(name for name, _ in scrape(server))
        exporter.close()
        server.release()
    return counted


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: entry.name)
def test_no_family_exceeds_the_bound_of_the_catalog(families, entry):
    """Whatever is fed in, a family has at most the series that the catalog states."""
    series = families["local_shard" if entry.name in OF_SHARDS else "full"]

    size = sum(series[f"{entry.prometheus_name}{suffix}"] for suffix in ("", "_bucket", "_sum", "_count"))

    assert 0 < size <= entry.bound


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
