"""What a Prometheus exporter is fed, and the samples that a scrape of its page has then."""

from __future__ import annotations

import numpy as np
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from tests.activation_tables import activation_table
from tests.builders import (
    activity_report,
    anomaly,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    health_report,
    run_info,
    self_report,
    step_report,
)
from tests.web import request

from loopscope.records import NUM_EXPONENT_BINS, Record
from loopscope_exporters.prometheus import PrometheusExporter
from loopscope_exporters.server import MetricsServer

__all__ = ["OF_SHARDS", "OPENMETRICS", "Samples", "everything", "export", "labels_of", "scrape", "value"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
OF_SHARDS = {"loopscope.gradient.local_squares"}
"""Metrics that only an FSDP2 rank has, instead of norms."""


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
        step_report(
            0,
            tokens=100,
            num_tokens=100,
            grad_scale=1024.0,
            gradients=gradient_table(sample=sample),
            activations=activation_table(),
        ),
        epoch_report(),
        event(),
        self_report(),
        activity_report(),
        health_report(anomaly()),
    ]
