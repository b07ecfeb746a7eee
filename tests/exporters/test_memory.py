"""The memory exporter: what it keeps and what it lets go."""

from __future__ import annotations

import threading

from tests.builders import epoch_report, event, run_info, self_report, step_report

from loopscope.protocols import Exporter
from loopscope_exporters.memory import MemoryExporter, create


def test_records_are_kept_by_type_and_in_order():
    """Each record is found under its type, and all of them in the order of their arrival."""
    records = [run_info(), step_report(0), event(), epoch_report(), self_report(), step_report(1)]
    exporter = MemoryExporter()

    for record in records:
        exporter.export(record)

    assert list(exporter.records) == records
    assert exporter.run is records[0]
    assert exporter.steps == (records[1], records[5])
    assert exporter.events == (records[2],)
    assert exporter.epochs == (records[3],)
    assert exporter.latest is records[5]
    assert exporter.latest_self is records[4]


def test_history_bounds_every_list():
    """The oldest go first; the run and the latest stay."""
    exporter = MemoryExporter(history=3)
    exporter.export(run_info())
    for step in range(10):
        exporter.export(step_report(step))
        exporter.export(event(step=step))
        exporter.export(epoch_report(step))

    assert [report.step for report in exporter.steps] == [7, 8, 9]
    assert [entry.step for entry in exporter.events] == [7, 8, 9]
    assert [report.epoch for report in exporter.epochs] == [7, 8, 9]
    assert len(exporter.records) == 6
    assert exporter.run == run_info()


def test_steps_can_be_kept_shorter_than_events():
    """`num_steps=0` keeps only the latest step report, and all events."""
    exporter = MemoryExporter(history=100, num_steps=0)
    for step in range(10):
        exporter.export(step_report(step))
        exporter.export(event(step=step))

    assert exporter.steps == ()
    assert exporter.latest is not None
    assert exporter.latest.step == 9
    assert len(exporter.events) == len(exporter.records) == 10


def test_it_is_empty_at_first_and_readable_after_close():
    """Before a record everything is empty or None; close keeps what there is."""
    exporter = MemoryExporter()
    empty = (exporter.records, exporter.latest, exporter.latest_self, exporter.run)
    exporter.export(step_report(0))

    exporter.flush()
    exporter.close()
    exporter.close()

    assert empty == ((), None, None, None)
    assert len(exporter.steps) == 1


def test_snapshots_can_be_taken_while_records_come():
    """A reader on another thread sees gapless, ordered steps."""
    exporter = MemoryExporter(history=50)
    has_ended = threading.Event()

    def pour() -> None:
        step = 0
        while not has_ended.is_set():
            exporter.export(step_report(step, gradients=None))
            step += 1

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        seen = [[report.step for report in exporter.steps] for _ in range(200)]
    finally:
        has_ended.set()
        thread.join()

    assert all(steps == list(range(steps[0], steps[0] + len(steps))) for steps in seen if steps)


def test_create_reads_history():
    """`create` makes an exporter as the protocol wants it."""
    exporter = create({"history": 2})
    for step in range(5):
        exporter.export(step_report(step))

    assert isinstance(exporter, Exporter)
    assert isinstance(exporter, MemoryExporter)
    assert len(exporter.steps) == 2
