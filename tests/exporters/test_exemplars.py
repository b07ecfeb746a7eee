"""Laws of exemplars: a bucket of the step time links to a step that it has counted."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.builders import TIME, run_info, step_report
from tests.scraping import OPENMETRICS, export
from tests.web import request


@pytest.fixture
def steps(server, exporter):
    """Steps of two durations, the latest of the first kind being step 2."""
    export(exporter, run_info(), step_report(0, duration_seconds=0.02), step_report(1, duration_seconds=3.0))
    export(exporter, step_report(2, duration_seconds=0.021))
    return server


def test_bucket_names_its_latest_step(steps) -> None:
    """In OpenMetrics, with its duration and its time."""
    text = request(f"{steps.url}/metrics", headers={"Accept": OPENMETRICS}).text

    found = {
        sample.labels["le"]: sample.exemplar
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "loopscope_step_duration_seconds_bucket" and sample.exemplar is not None
    }
    assert {bound: (each.labels, each.value) for bound, each in found.items()} == {
        "0.025": ({"step": "2"}, 0.021),
        "5.0": ({"step": "1"}, 3.0),
    }
    assert float(found["0.025"].timestamp) == pytest.approx(TIME + 0.2, abs=1e-3)


def test_plain_text_has_none(steps) -> None:
    """Its format has no place for them."""
    text = request(f"{steps.url}/metrics").text

    assert " # {" not in text
