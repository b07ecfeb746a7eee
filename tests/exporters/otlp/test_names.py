"""The law of names: the standard translation of what OTLP sends gives exactly the names that Prometheus scrapes.

The translation is written here from the specification, not from the catalog:
https://github.com/open-telemetry/opentelemetry-specification/blob/main/specification/compatibility/prometheus_and_openmetrics.md
and from its reference, https://github.com/prometheus/otlptranslator (metric_namer.go, unit_namer.go).
"""

from __future__ import annotations

import pytest
from tests import builders
from tests.otlp_messages import metrics_of

from loopscope.catalog import METRICS
from loopscope_exporters.prometheus import MetricsPage
from loopscope_exporters.series import AgentSeries

UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
"""UCUM units and their words; a unit that is not here stays as it is."""
RECORDS = [
    builders.run_info(rank=2),
    builders.step_report(1, optimizer="adam", gradients=builders.gradient_table(sample=builders.gradient_sample())),
    builders.epoch_report(optimizer="adam"),
    builders.event(),
    builders.activity_report(),
    builders.self_report(),
]


def translated(name: str, unit: str, kind: str) -> str:
    """Return the Prometheus name of an OpenTelemetry metric, unit and type suffixes added."""
    words = "".join(character if character.isalnum() else "_" for character in name).split("_")
    tokens = [word for word in words if word]
    main, _, per = unit.partition("/")
    for part, prefix in ((main, ()), (per, ("per",))):
        word = "" if "{" in part else UNITS.get(part.strip(), part.strip())
        if word and word not in tokens:
            tokens += [*prefix, word]
    if kind == "counter":
        tokens = [token for token in tokens if token != "total"] + ["total"]
    if unit == "1" and kind == "gauge":
        tokens = [token for token in tokens if token != "ratio"] + ["ratio"]
    return "_".join(tokens)


def kind_of(metric) -> str:
    """Return what an OTLP metric becomes in Prometheus."""
    data = metric.WhichOneof("data")
    if data == "sum":
        assert metric.sum.is_monotonic
    return {"gauge": "gauge", "sum": "counter", "histogram": "histogram", "exponential_histogram": "histogram"}[data]


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: entry.name)
def test_name_of_every_metric(entry):
    """Name, unit and kind of the catalog translate to the catalog's Prometheus name."""
    assert translated(entry.name, entry.unit, entry.kind) == entry.prometheus_name


@pytest.mark.parametrize("aggregation", ["base2_exponential_bucket_histogram", "explicit_bucket_histogram"])
def test_what_is_sent_is_what_is_scraped(aggregation):
    """The metrics that are sent, translated, are the families on the Prometheus page, with the same labels."""
    page, series = MetricsPage(), AgentSeries()
    page.add(series)
    for record in RECORDS:
        series.add(record)
    scraped = {}
    for family in page.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        scraped[name, family.type] = {
            tuple(sorted((label, text) for label, text in sample.labels.items() if label != "le"))
            for sample in family.samples
        }
    sent = {}
    for metric in metrics_of(RECORDS, METRICS_DEFAULT_HISTOGRAM_AGGREGATION=aggregation).values():
        name = translated(metric.name, metric.unit, kind_of(metric))
        points = getattr(metric, metric.WhichOneof("data")).data_points
        sent[name, kind_of(metric)] = {
            tuple(sorted((pair.key, pair.value.string_value) for pair in point.attributes)) for point in points
        }

    assert sent == scraped
    assert len(sent) > 40


def test_help_and_unit_are_the_catalogs():
    """A metric bears the catalog's help and unit."""
    sent = metrics_of(RECORDS)

    expected = {entry.name: (entry.help, entry.unit) for entry in METRICS if entry.name in sent}
    assert {name: (metric.description, metric.unit) for name, metric in sent.items()} == expected
