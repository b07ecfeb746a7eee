"""Laws of the hand-over as a whole: bounded, never waiting, and exact in its counts although reports were dropped."""

from __future__ import annotations

import math
import threading
import time

import pytest
from tests.loops import batch, network, samples, watch
from tests.waiting import await_workers, wait_until
from tests.web import request
from torch.optim import SGD
from torch.utils.data import DataLoader

from loopscope.assembly import steps
from loopscope.records import EpochReport, Event, HealthReport, RunInfo, SelfReport, StepReport

dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Gate:
    """An exporter that keeps the worker waiting while it is shut."""

    name = "gate"

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.is_open.set()
        self.is_waiting = threading.Event()
        self.records: list[object] = []

    def export(self, record):
        """Wait for the gate to open."""
        if not self.is_open.is_set():
            self.is_waiting.set()
        assert self.is_open.wait(60)
        self.records.append(record)

    def flush(self):
        """Do nothing."""

    def close(self):
        """Do nothing."""


@pytest.fixture
def gate():
    """A gate that is open in the end, whatever happens."""
    gate = Gate()
    yield gate
    gate.is_open.set()


class Loop:
    """A loop whose step can overflow, and be left out."""

    def __init__(self) -> None:
        self.model = network()
        self.optimizer = SGD(self.model.parameters(), 1e-3)
        self.factor = 1.0
        self.model[2].bias.register_hook(lambda gradient: gradient * self.factor)

    def step(self, inputs=None, *, overflows=False, is_left_out=False):
        """Train on a batch."""
        self.factor = math.inf if overflows else 1.0
        self.model(batch() if inputs is None else inputs).square().mean().backward()
        if not is_left_out:
            self.optimizer.step()
        self.optimizer.zero_grad()


@pytest.fixture
def loop():
    """A loop."""
    return Loop()


def hold_up(gate: Gate, loop: Loop) -> None:
    """Shut the gate and train until the worker stands before it."""
    gate.is_open.clear()
    for _ in range(2):
        loop.step()
    assert gate.is_waiting.wait(10)


def let_go(gate: Gate, watched) -> tuple[StepReport, ...]:
    """Open the gate; return the reports."""
    gate.is_open.set()
    return watched.reports


@pytest.mark.parametrize("ring_slots", [2, 8])
def test_reports_are_dropped_and_not_the_steps(loop, gate, ring_slots):
    """A loop that is ahead of the worker by more than the slots goes on; the counts of all its steps arrive."""
    with watch(loop.model, loop.optimizer, exporters=(gate,), ring_slots=ring_slots) as watched:
        hold_up(gate, loop)
        for _ in range(50):
            loop.step()
        num_dropped = 52 - len(let_go(gate, watched))
        loop.step()

        reports = watched.reports
        assert 50 - ring_slots <= num_dropped < 52
        assert sum(report.num_steps for report in reports) == 53
        assert sum(report.num_micro_steps for report in reports) == 53
        assert [report.step for report in reports][-1] == 52
        wait_until(lambda: watched.memory.latest_self.dropped_reports == num_dropped)


def test_numbers_of_steps_leave_gaps_where_reports_were_dropped(loop, gate):
    """A report's step is the number of its own step, and `num_steps` reaches back to the report before it."""
    with watch(loop.model, loop.optimizer, exporters=(gate,), ring_slots=2) as watched:
        hold_up(gate, loop)
        for _ in range(10):
            loop.step()
        let_go(gate, watched)
        loop.step()

        reports = watched.reports
        assert [report.step for report in reports] == [
            sum(r.num_steps for r in reports[: i + 1]) - 1 for i in range(len(reports))
        ]


def test_samples_of_dropped_steps_are_carried(loop, gate):
    """The samples of all batches are counted, those of dropped reports with the next report."""
    with watch(loop.model, loop.optimizer, exporters=(gate,), ring_slots=2) as watched:
        hold_up(gate, loop)
        for inputs in DataLoader(samples(30), batch_size=3):
            loop.step(inputs)
        let_go(gate, watched)
        loop.step()

        assert sum(report.num_samples for report in watched.reports) == 30


@pytest.mark.parametrize("when", ["before the step", "after the step"])
def test_logged_counts_of_dropped_steps_are_carried(loop, gate, when):
    """Samples and tokens that the loop logs are counted although the report of their step was dropped."""
    with watch(loop.model, loop.optimizer, exporters=(gate,), ring_slots=2) as watched:
        hold_up(gate, loop)
        for _ in range(10):
            loop.model(batch()).mean().backward()
            if when == "before the step":
                watched.agent.log(samples=5, tokens=100)
            loop.optimizer.step()
            if when == "after the step":
                watched.agent.log(samples=5, tokens=100)
        let_go(gate, watched)
        loop.step()

        assert sum(report.num_tokens for report in watched.reports) == 1_000
        assert sum(report.num_samples for report in watched.reports) == 50
        assert (watched.reports[-1].samples, watched.reports[-1].tokens) == (None, None)


def test_logged_loss_of_a_dropped_step_is_no_other_steps(loop, gate):
    """A loss that was logged for a dropped step goes with it."""
    with watch(loop.model, loop.optimizer, exporters=(gate,), ring_slots=2) as watched:
        hold_up(gate, loop)
        for _ in range(10):
            loop.step()
            watched.agent.log(loss=1e9)
        let_go(gate, watched)
        loop.step()

        assert watched.reports[-1].loss < 1e6


def test_skips_of_dropped_reports_are_carried(loop, gate):
    """Hand-written skips are counted although their reports were dropped."""
    with watch(loop.model, loop.optimizer, exporters=(gate,), ring_slots=2) as watched:
        hold_up(gate, loop)
        for index in range(12):
            loop.step(is_left_out=index % 3 == 2)
        let_go(gate, watched)
        loop.step()

        assert sum(report.num_skipped.get("manual", 0) for report in watched.reports) == 4
        assert sum(report.num_steps for report in watched.reports) == 2 + 8 + 1
        assert watched.reports[-1].step == 10


def test_nonfinite_gradients_of_dropped_reports_are_carried(loop, gate):
    """A layer that was not finite only on a dropped step is named by the next report."""
    with watch(loop.model, loop.optimizer, exporters=(gate,), ring_slots=2) as watched:
        hold_up(gate, loop)
        for index in range(10):
            loop.step(overflows=index == 5, is_left_out=index == 5)
        let_go(gate, watched)
        loop.step()

        assert [report.gradients.nonfinite_layers for report in watched.reports][-1] == ("2",)
        assert math.isfinite(watched.reports[-1].gradients.global_norm)


def test_slots_come_back_where_no_report_can_be_made(loop, monkeypatch):
    """Assembly that fails costs its report and gives the slots back."""
    with watch(loop.model, loop.optimizer, ring_slots=2, strict=False) as watched:
        monkeypatch.setattr(
            watched.agent._pipeline._assembler, "report", lambda frame: (_ for _ in ()).throw(RuntimeError("ours"))
        )
        for _ in range(5):
            loop.step()
            assert watched.agent.flush(10)
        monkeypatch.undo()
        loop.step()

        assert len(watched.reports) == 1
        assert watched.agent.internal_errors == {"readback": 5}


def test_records_arrive_in_their_order(loop, gate):
    """First the run, then each step with its events and the health after it, then its epoch; the self report last."""
    with watch(loop.model, loop.optimizer, exporters=(gate,)) as watched:
        for inputs in DataLoader(samples(6), batch_size=3):
            loop.step(inputs, overflows=True)
        assert watched.agent.flush()

    kinds = [type(record) for record in gate.records if not isinstance(record, SelfReport)]
    step = [StepReport, Event, HealthReport]
    assert kinds == [RunInfo, *step, *step, EpochReport]
    events = [(record.step, record.kind) for record in gate.records if isinstance(record, Event)]
    assert events == [(0, "nonfinite_gradient"), (1, "nonfinite_loss")]
    assert isinstance(gate.records[-1], SelfReport)


@dies
def test_worker_that_dies_in_an_exporter_loses_one_record(loop, gate):
    """It is lost where SystemExit came, and to nobody else; the next worker sends the rest to all."""

    class Deadly(Gate):
        def export(self, record):
            if isinstance(record, StepReport) and record.step == 3 and not self.is_waiting.is_set():
                self.is_waiting.set()
                raise SystemExit
            self.records.append(record)

    first, deadly = Gate(), Deadly()
    first.is_open.set()
    with watch(loop.model, loop.optimizer, exporters=(first, deadly, gate), strict=False) as watched:
        for _ in range(8):
            loop.step()
        watched.agent.flush(5)
        wait_until(lambda: watched.agent.internal_errors.get("worker") == 1)
        assert watched.agent.flush(5)
    await_workers()

    steps = [[record for record in each.records if isinstance(record, StepReport)] for each in (first, deadly, gate)]
    numbers = [[record.step for record in each] for each in steps]
    assert numbers == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]]


def test_held_step_takes_what_is_logged_after_it(loop, gate):
    """The latest step waits for `agent.log`: also where the worker is idle it is not sent before."""
    with watch(loop.model, loop.optimizer, exporters=(gate,)) as watched:
        for step in range(20):
            loop.step()
            watched.agent.log(accuracy=step)

        assert [report.logged for report in watched.reports] == [{"accuracy": float(step)} for step in range(20)]


def test_exporter_that_hangs_does_not_keep_the_others_open(loop, gate, tmp_path):
    """At detach all exporters but the one that hangs are closed: the log can be had again, the port is free."""
    settings = {"exporters": (gate,), "jsonl": str(tmp_path / "log"), "port": 0}
    with watch(loop.model, loop.optimizer, **settings) as watched:
        hold_up(gate, loop)
        url = watched.agent.url
        assert not watched.agent.flush(0.1)

    with pytest.raises(ConnectionError):
        request(f"{url}/healthz")
    with watch(network(1), jsonl=str(tmp_path / "log")):
        gate.is_open.set()
    assert watched.agent.internal_errors == {}


def test_detach_waits_for_an_agent_that_closes_itself(gate):
    """The model is gone and the worker has begun to detach: who detaches as well finds everything reported."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, exporters=(gate,)) as watched:
        hold_up(gate, loop)
        loop.step()
        agent = watched.agent
        threading.Timer(0.5, gate.is_open.set).start()
        assert agent._stop(time.monotonic() + 10, 10)  # as its worker does
        agent._closes_itself = True
        agent.detach()

        assert [record.step for record in gate.records if isinstance(record, StepReport)] == [0, 1, 2]


def test_step_without_a_report_is_counted_once(loop, monkeypatch):
    """A table that cannot be made costs its report, and the numbers go on by one a step."""
    with watch(loop.model, loop.optimizer, strict=False) as watched:
        loop.step()
        assert watched.agent.flush(10)
        with monkeypatch.context() as patched:
            patched.setattr(steps, "_gradients", lambda *_: (_ for _ in ()).throw(RuntimeError("ours")))
            loop.step()
            assert watched.agent.flush(10)
        loop.step()

        assert [(report.step, report.num_steps) for report in watched.reports] == [(0, 1), (2, 2)]
