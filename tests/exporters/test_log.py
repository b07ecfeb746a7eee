"""The log exporter: one line for what a person should act on, and not too many."""

from __future__ import annotations

import logging

import pytest
from tests.builders import TIME, event, run_info, step_report

from loopscope_exporters.log import LogExporter, create


@pytest.fixture
def lines(caplog):
    """What the logger has got so far."""
    caplog.set_level(logging.DEBUG, "loopscope")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "loopscope"]


def test_a_line_says_what_where_and_what_to_do(lines):
    """Kind, step, layer, message and remedy stand in one line."""
    LogExporter().export(event(step=12, message="The gradient\nis NaN."))

    assert lines() == [
        "loopscope: nonfinite_gradient at step 12 in encoder: The gradient is NaN. Lower the learning rate."
    ]


def test_without_a_layer_the_line_names_the_site(lines):
    """An event at a line of the user's code says which."""
    LogExporter().export(event("device_sync", "warning", layer=None, site="train.py:7"))

    assert "device_sync at step 0 at train.py:7: " in lines()[0]


@pytest.mark.parametrize(
    ("severity", "level"), [("info", None), ("warning", logging.WARNING), ("critical", logging.CRITICAL)]
)
def test_severity_decides_the_level(caplog, severity, level):
    """Events of severity info are no lines; the others have the level of their name."""
    caplog.set_level(logging.DEBUG, "loopscope")

    LogExporter().export(event(severity=severity))

    assert [record.levelno for record in caplog.records] == ([] if level is None else [level])


def test_other_records_are_no_lines(lines):
    """Steps and runs are not logged."""
    exporter = LogExporter()

    exporter.export(run_info())
    exporter.export(step_report())

    assert lines() == []


def test_a_flood_is_held_back_and_counted(lines):
    """Twenty lines a minute of event time; the first line after says how many were held back."""
    exporter = LogExporter()
    for second in range(50):
        exporter.export(event(time_unix_seconds=TIME + second))
    flood = len(lines())

    exporter.export(event(time_unix_seconds=TIME + 61))
    exporter.export(event(time_unix_seconds=TIME + 62))

    assert flood == 20
    assert lines()[20].endswith("(30 events before this one were held back)")
    assert "held back" not in lines()[21]


def test_what_is_held_back_at_the_end_is_said(lines):
    """Close states what no later line could; a second close is silent."""
    exporter = LogExporter()
    for _ in range(25):
        exporter.export(event())

    exporter.close()
    exporter.close()

    assert lines()[20:] == ["loopscope: 5 more events were held back"]


def test_a_clock_that_is_set_back_does_not_silence(lines):
    """After the clock jumped back by an hour new events are logged."""
    exporter = LogExporter()
    for _ in range(20):
        exporter.export(event())

    exporter.export(event(time_unix_seconds=TIME - 3_600))

    assert len(lines()) == 21


def test_create_needs_no_setting(lines):
    """`create` makes a log exporter of any settings."""
    exporter = create({})
    exporter.export(event())

    assert len(lines()) == 1
