"""Laws of the worker's batches: however many steps it finds at once, all is seen and told in its order."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from tests.builders import TIME, event, run_info, self_report, step_report
from tests.frames import step_frame

from loopscope import pipeline
from loopscope.assembly import Assembler
from loopscope.frames import EpochMark
from loopscope.guard import Guard
from loopscope.pipeline import Pipeline
from loopscope.records import EpochReport, Event, RunInfo, SelfReport, StepReport


class Witness:
    """A detector that notes what it sees, tells of each third step, and may fail or end its thread at one."""

    def __init__(self, name: str = "witness", fault: BaseException | None = None, at_step: int = -1) -> None:
        self.name, self._fault, self._at_step = name, fault, at_step
        self.seen: list[tuple[str, int]] = []

    def see(self, report):
        """Note the report."""
        is_step = isinstance(report, StepReport)
        if is_step and report.step == self._at_step and self._fault is not None:
            raise self._fault
        self.seen.append(("step", report.step) if is_step else ("window", report.last_step))
        return (event("custom", "info", report.step),) if is_step and report.step % 3 == 0 else ()


class Sink:
    """An exporter that keeps what it gets."""

    name = "sink"

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def export(self, record):
        """Keep the kind and the step."""
        if isinstance(record, RunInfo | SelfReport):
            return
        kinds = {StepReport: "step", Event: "event", EpochReport: "window"}
        step = record.last_step if isinstance(record, EpochReport) else record.step
        self.told.append((kinds[type(record)], step))

    def flush(self):
        """Do nothing."""

    def close(self):
        """Do nothing."""


@pytest.fixture(autouse=True)
def ample_batches(monkeypatch):
    """Batches of eight, whatever time they take, of frames that are reports already."""
    monkeypatch.setattr(pipeline, "BATCH_REPORTS", 8)
    monkeypatch.setattr(pipeline, "_BATCH_SECONDS", 60.0)
    monkeypatch.setattr(Assembler, "report", lambda _, frame: step_report(frame.epoch, optimizer=frame.optimizer))


def worker(*detectors: Witness, window_steps: int = 1_000, **changes) -> tuple[Pipeline, Sink]:
    """Return a pipeline and what it tells."""
    sink = Sink()
    calls = {"report_self": self_report, "read_memory": lambda: 0, "breathe": lambda: None} | changes
    made = Pipeline(run_info(), detectors, [sink], Guard(limit=10, strict=False), window_steps=window_steps, **calls)
    return made, sink


def told_of(*steps: int) -> list[tuple[str, int]]:
    """Return what is told of these steps: each with its event."""
    return [entry for step in steps for entry in [("step", step), ("event", step)][: 2 - (step % 3 > 0)]]


@pytest.mark.parametrize("num_steps", [1, 7, 8, 9, 30])
def test_all_is_told_by_the_next_tick(num_steps):
    """A batch that is not full is told then, and nothing is told twice."""
    made, sink = worker(Witness())
    for step in range(num_steps):
        made.take(step_frame(step))
    made.tick()
    made.tick()

    assert sink.told == told_of(*range(num_steps))


@pytest.mark.parametrize("window_steps", [1, 3, 5, 8, 11])
def test_a_window_is_seen_and_told_between_its_last_step_and_the_next(window_steps):
    """A detector sees the report of a window before the steps that follow, as if each step came alone."""
    witness = Witness()
    made, sink = worker(witness, window_steps=window_steps)
    for step in range(24):
        made.take(step_frame(step))
    made.tick()

    ends = range(window_steps - 1, 24, window_steps)
    seen = [[("step", step), ("window", step)][: 1 + (step in ends)] for step in range(24)]
    told = [[*told_of(step), ("window", step)][: len(told_of(step)) + (step in ends)] for step in range(24)]
    assert witness.seen == list(itertools.chain(*seen))
    assert sink.told == list(itertools.chain(*told))


def test_windows_of_several_optimizers_end_by_themselves():
    """Each optimizer's steps count for its own window."""
    witness = Witness()
    made, _ = worker(witness, window_steps=4)
    for step in range(8):
        for optimizer in ("critic", "generator"):
            made.take(dataclasses.replace(step_frame(step), optimizer=optimizer))
    made.tick()

    windows = [index for index, (kind, _) in enumerate(witness.seen) if kind == "window"]
    assert [witness.seen[index - 1] for index in windows] == [("step", 3), ("step", 3), ("step", 7), ("step", 7)]


def test_an_epoch_ends_after_the_steps_that_wait():
    """Its mark has the steps before it judged and told first."""
    witness = Witness()
    made, sink = worker(witness)
    for step in range(3):
        made.take(step_frame(step))
    made.take(EpochMark(epoch=0, time_unix_seconds=TIME))
    made.take(step_frame(3))
    made.tick()

    assert witness.seen == [("step", 0), ("step", 1), ("step", 2), ("window", 2), ("step", 3)]
    assert sink.told == [*told_of(0, 1, 2), ("window", 2), *told_of(3)]


def test_a_thread_that_is_ended_in_a_detector_loses_no_report():
    """What the batch's reports brought until then is told by the next worker; later detectors have not seen them."""
    early, late = Witness("early"), Witness("late")
    made, sink = worker(early, Witness("deadly", SystemExit(), at_step=5), late)
    for step in range(7):
        made.take(step_frame(step))
    with pytest.raises(SystemExit):
        made.take(EpochMark(epoch=0, time_unix_seconds=TIME))
    made.take(step_frame(7))
    made.tick()

    assert [entry for entry in sink.told if entry[0] != "event"] == [
        *[("step", step) for step in range(7)],
        ("window", 6),
        ("step", 7),
    ]
    assert {("event", 0), ("event", 3), ("event", 6)} <= set(sink.told)
    assert ("step", 3) in early.seen
    assert late.seen == [("window", 6), ("step", 7)]


def test_memory_is_read_once_a_batch():
    """It is that of the moment, which is nearest to the last of the steps."""
    seen: list[tuple[int, int | None]] = []
    witness = Witness()
    witness.see = lambda report: seen.append((report.step, report.memory_bytes)) or ()
    made, _ = worker(witness, read_memory=lambda: 7)
    for step in range(4):
        made.take(step_frame(step))
    made.tick()

    assert seen == [(0, None), (1, None), (2, None), (3, 7)]


def test_memory_that_cannot_be_read_costs_no_report():
    """The report says nothing of it then, and the fault is counted."""

    def fail() -> int:
        raise OSError("no /proc")

    made, sink = worker(Witness(), read_memory=fail)
    for step in range(7):
        made.take(step_frame(step))
    made.tick()

    assert sink.told == told_of(*range(7))
    assert made._guard.faults()["self_report"] == 1


def test_the_loop_can_have_the_interpreter_between_the_stages():
    """Before reports are judged, before they are sent, and before an exporter flushes the worker may breathe."""
    steps: list[str] = []
    witness = Witness()

    def breathe():
        steps.append(f"breath, {len(witness.seen)} seen, {len(sink.told)} told")

    line, sink = worker(witness, breathe=breathe)
    for step in range(1, 9):
        line.take(step_frame(step))
    line.tick()

    num_records = len(told_of(*range(1, 9)))
    before_judging, before_sending = "breath, 0 seen, 0 told", "breath, 8 seen, 0 told"
    assert steps[:2] == [before_judging, before_sending]
    assert steps[-1] == f"breath, 8 seen, {num_records} told"
    assert len(steps) > 3  # one more before the tick's own records, one before the flush
