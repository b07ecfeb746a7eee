"""Laws of the flight recorder's lines: which records are in a log, in what order, and what a reader makes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.builders import (
    activity_report,
    anomaly,
    epoch_report,
    event,
    gradient_table,
    health_report,
    run_info,
    self_report,
    step_report,
)
from tests.jsonl_logs import raw_lines, write
from tests.waiting import wait_until

from loopscope.records import NonfiniteOrigin, SyncCount
from loopscope_exporters.jsonl import MAX_PENDING, JsonlExporter, read

SYNC = SyncCount(kind="item", site="train.py:120", count=1, seconds=0.0004)
ORIGIN = NonfiniteOrigin(what="input", operator="addmm", parameter="encoder.0.weight", rows=(3,))
COUNTERS = {
    "loopscope.device.syncs": {("train.py:120", "item"): 2},
    "loopscope.device.sync": {("train.py:120", "item"): 0.0008},
}


def test_records_come_back_in_order(path):
    """Run, steps, epochs, events and health are one line each; self reports are left out."""
    write(path, run_info(), step_report(0), event(), health_report(), self_report(), epoch_report(), step_report(1))

    entries = list(read(path))

    assert [entry["type"] for entry in entries] == ["run", "step", "event", "health", "epoch", "step"]
    assert [entry["step"] for entry in entries if entry["type"] == "step"] == [0, 1]
    assert all(isinstance(entry["step"], int) for entry in entries if entry["type"] == "step")


def test_nothing_is_written_before_flush(path):
    """A record is in the file after flush, not before: whole lines only."""
    exporter = JsonlExporter(path)
    exporter.export(run_info())
    exporter.export(step_report(0))
    before = path.read_bytes()

    exporter.flush()

    assert before == b""
    assert len(raw_lines(path)) == 2
    exporter.close()


def test_many_records_without_flush_are_written(path):
    """What waits is bounded: export flushes by itself."""
    exporter = JsonlExporter(path)
    exporter.export(run_info())
    for step in range(1_000):
        exporter.export(step_report(step))
        assert len(exporter._pending) < MAX_PENDING
    exporter.close()

    assert [entry["step"] for entry in read(path) if entry["type"] == "step"] == list(range(1_000))
    assert exporter.num_dropped == 0


def test_names_are_written_when_they_change(path):
    """Tables of names stand where they are new, for each optimizer, and the reader carries them on."""
    other = gradient_table((1.0,), layers=("other",))
    reports = [
        step_report(0, optimizer="a"),
        step_report(1, optimizer="b", gradients=other),
        step_report(2, optimizer="a"),
        step_report(3, optimizer="b", gradients=other),
        step_report(4, optimizer="a", gradients=other),
        step_report(5, optimizer="a", gradients=None),
        step_report(6, optimizer="a", gradients=other),
    ]
    write(path, run_info(), *reports)

    has_names = ["names" in entry["gradients"] for entry in raw_lines(path)[1:] if entry["gradients"]]
    names = [entry["gradients"]["names"] for entry in list(read(path))[1:] if entry["gradients"]]

    assert has_names == [True, True, False, False, True, False]
    assert names == [list(report.gradients.names) for report in reports if report.gradients]


def test_a_second_run_appends(path):
    """An existing log is continued, with a run line and the names again."""
    write(path, run_info(run="first"), step_report(0))
    write(path, run_info(run="second"), step_report(0))

    assert [entry.get("run") for entry in read(path) if entry["type"] == "run"] == ["first", "second"]
    assert ["names" in entry["gradients"] for entry in raw_lines(path) if entry["type"] == "step"] == [True, True]


def test_a_line_that_was_cut_is_ended_before_the_next(path):
    """A former run that died in the middle of a line costs that line only, and the reader counts it."""
    write(path, run_info(), step_report(0), step_report(1))
    path.write_bytes(path.read_bytes()[:-30])
    write(path, run_info(), step_report(2))

    reader = read(path)

    assert [entry["step"] for entry in reader if entry["type"] == "step"] == [0, 2]
    assert reader.num_cut_lines == 1


def test_a_newer_version_is_refused(path):
    """A log of a later format says which reader it needs."""
    path.write_text('{"version":2,"type":"run"}\n')

    with pytest.raises(ValueError, match="version 2"):
        list(read(path))


def test_a_log_that_is_not_there_is_said_at_once(path):
    """Reading raises FileNotFoundError, not an empty log."""
    with pytest.raises(FileNotFoundError, match="there is no log"):
        read(path)


def test_a_reader_may_follow_a_writer(path):
    """A log can be read while it is written: what was flushed is there."""
    exporter = JsonlExporter(path)
    exporter.export(run_info())
    exporter.export(step_report(0))
    exporter.flush()

    entries = wait_until(lambda: list(read(path)))

    assert len(entries) == 2
    exporter.close()


def test_the_documented_lines_are_what_is_written(path):
    """Every example in docs/jsonl.md has exactly the keys of a line of its type."""
    page = Path(__file__).parents[2] / "docs" / "jsonl.md"
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", page.read_text(), re.DOTALL)]
    write(
        path,
        run_info(),
        step_report(0, syncs=(SYNC,), pauses={"garbage_collection": 0.002}, batch=4, memory_bytes=987_654_321),
        step_report(1, origin=ORIGIN, batch=5),
        event(),
        epoch_report(),
        activity_report(COUNTERS),
        health_report(anomaly()),
    )

    written = raw_lines(path)

    assert [list(example) for example in examples] == [list(entry) for entry in written]
    nested = [list(entry["gradients"]) for entry in examples if "gradients" in entry]
    assert nested == [list(entry["gradients"]) for entry in written if "gradients" in entry]
    rows = [[list(row) for name in ("syncs", "counters") for row in entry.get(name, ())] for entry in examples]
    assert rows == [[list(row) for name in ("syncs", "counters") for row in entry.get(name, ())] for entry in written]
    assert examples[-2]["counters"] == written[-2]["counters"]
    assert examples[-1] == written[-1]
    for name in ("syncs", "origin", "pauses", "batch", "memory_bytes"):
        assert [entry[name] for entry in examples[1:3]] == [entry[name] for entry in written[1:3]]
