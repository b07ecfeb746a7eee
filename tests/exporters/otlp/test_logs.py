"""Laws of the log records: an event with its name, severity and all that is known of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests import builders
from tests.otlp_receiver import attributes_of

from loopscope_exporters.otlp.logs import log_record


def record_of(**changes):
    """Return the log record of an event."""
    return log_record(builders.event(**changes), observed_time_unix_seconds=builders.TIME + 5)


def test_an_event():
    """Name, text, times and attributes are the event's; what is not known is left out."""
    event = builders.event(
        "device_sync", step=12, layer=None, site="src/train.py:120", value=3.0, time_unix_seconds=builders.TIME
    )
    record = log_record(event, observed_time_unix_seconds=builders.TIME + 5)
    attributes = attributes_of(record)

    assert record.event_name == "loopscope.device_sync"
    assert record.body.string_value == event.message
    assert record.time_unix_nano == builders.TIME * 1e9
    assert record.observed_time_unix_nano == (builders.TIME + 5) * 1e9
    assert attributes["kind"] == "device_sync"
    assert (attributes["step"], attributes["value"], attributes["remedy"]) == (12, 3.0, event.remedy)
    assert (attributes["site"], attributes["code.file.path"], attributes["code.line.number"]) == (
        "src/train.py:120",
        "src/train.py",
        120,
    )
    assert "layer" not in attributes
    assert "rank" not in attributes


@pytest.mark.parametrize(
    ("severity", "number"), [("info", 9), ("warning", 13), ("critical", 17), ("something of its own", 0)]
)
def test_severity(severity, number):
    """Severities are INFO, WARN and ERROR, and keep their own word."""
    record = record_of(severity=severity)

    assert (record.severity_number, record.severity_text) == (number, severity)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (3, 3),
        (2**63, str(2**63)),
        (0.5, 0.5),
        ("text", "text"),
        ("broken \udcff", "broken ?"),
        ((1, "a"), [1, "a"]),
        ({"a": {"b": [1.5]}}, {"a": {"b": [1.5]}}),
        ({}, {}),
        ([], []),
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        ([None], [None]),
        (ValueError("why"), "why"),
    ],
)
def test_attributes_of_any_type(value, expected):
    """Attributes keep their types where OTLP has them, and go as text elsewhere."""
    assert attributes_of(record_of(attributes={"mine": value}))["mine"] == expected


def test_an_attribute_that_holds_itself():
    """A value that holds itself is cut off, not followed for ever."""
    value: list[object] = []
    value.append(value)

    assert "[[...]]" in str(attributes_of(record_of(attributes={"mine": value})))


def test_nan_is_a_number():
    """A value that is NaN is sent as one."""
    assert math.isnan(attributes_of(record_of(value=math.nan))["value"])


def test_own_attributes_do_not_hide_ours():
    """An event's own attribute does not take the place of what every event has."""
    assert attributes_of(record_of(step=4, attributes={"step": "other", "parameter": "w"}))["step"] == 4


@pytest.mark.parametrize("site", ["train.py", ":3", "train.py:x", "", "<string>:2"])
def test_strange_sites(site):
    """A site without a path and a line is sent as it is."""
    attributes = attributes_of(record_of(site=site))

    assert attributes["site"] == site
    assert ("code.line.number" in attributes) == (site == "<string>:2")
