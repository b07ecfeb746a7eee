"""Laws of the delivery: each exporter gets every record in its order, whatever becomes of the others."""

from __future__ import annotations

import threading
import time

import pytest
from tests.builders import step_report
from tests.waiting import wait_until

from loopscope.delivery import Delivery
from loopscope.guard import Guard


class Taker:
    """An exporter that notes the steps that it gets, and fails of some of them."""

    def __init__(self, name: str, faults: dict[int, BaseException] | None = None) -> None:
        self.name, self.faults = name, faults or {}
        self.steps: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.num_closed = self.num_flushed = self.num_inside = self.most_inside = 0
        self.on_export = lambda: None

    def export(self, record):
        """Take one, once the gate is open."""
        if not self.gate.wait(30):
            raise TimeoutError
        self.num_inside += 1
        self.most_inside = max(self.most_inside, self.num_inside)
        self.on_export()
        self.num_inside -= 1
        if record.step in self.faults:
            raise self.faults[record.step]
        self.steps.append(record.step)

    def flush(self):
        """Count."""
        self.num_flushed += 1

    def close(self):
        """Count."""
        self.num_closed += 1


def delivery(*takers: Taker, limit: int = 10, steps: range = range(6)) -> Delivery:
    """Return a delivery with these steps waiting."""
    made = Delivery(takers, Guard(limit=limit, strict=False), lambda: None)
    for step in steps:
        made.put(step_report(step))
    return made


def test_each_gets_all_in_its_order_once():
    """What was sent is not sent again."""
    takers = [Taker("a"), Taker("b")]
    made = delivery(*takers)
    made.send()
    made.flush()

    assert [taker.steps for taker in takers] == [[0, 1, 2, 3, 4, 5]] * 2
    assert [taker.num_flushed for taker in takers] == [1, 1]


def test_the_loop_can_have_the_interpreter_between_two_exporters():
    """Each gets all that waits at one go: before the next one does the worker may breathe."""
    takers, seen = [Taker("a"), Taker("b")], []
    made = Delivery(takers, Guard(), lambda: seen.append([len(taker.steps) for taker in takers]))
    for step in range(3):
        made.put(step_report(step))
    made.send()

    assert seen == [[0, 0], [3, 0]]


def test_what_one_fails_of_is_lost_to_it_alone():
    """A fault costs a record of one exporter, not the records after it, nor those of the others."""
    takers = [Taker("a", {2: ValueError("ours")}), Taker("b")]
    delivery(*takers).send()

    assert [taker.steps for taker in takers] == [[0, 1, 3, 4, 5], [0, 1, 2, 3, 4, 5]]


def test_one_that_is_switched_off_keeps_nothing_waiting():
    """After the limit of faults it gets nothing more, neither now nor later."""
    faulty, other = Taker("a", dict.fromkeys(range(6), ValueError("ours"))), Taker("b")
    made = delivery(faulty, other, limit=3)
    made.send()
    faulty.faults.clear()
    made.put(step_report(6))
    made.send()

    assert faulty.steps == []
    assert not made._outlets[0].waiting
    assert other.steps == [0, 1, 2, 3, 4, 5, 6]


def test_a_thread_that_is_ended_in_one_loses_one_record():
    """The next worker goes on where the last one was ended, for it and for those after it."""
    takers = [Taker("a"), Taker("b", {1: SystemExit()}), Taker("c")]
    made = delivery(*takers)
    with pytest.raises(SystemExit):
        made.send()
    made.send()

    assert [taker.steps for taker in takers] == [[0, 1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]


def test_abandoned_by_a_worker_that_hangs():
    """The others get what waits and are closed; the one that hangs is left alone."""
    takers = [Taker("a"), Taker("b"), Taker("c")]
    made = delivery(*takers)
    takers[1].gate.clear()
    worker = threading.Thread(target=made.send)
    worker.start()
    wait_until(lambda: len(takers[0].steps) == 6)
    wait_until(lambda: made._busy is made._outlets[1])
    made.abandon()
    others = [(taker.steps, taker.num_closed) for taker in (takers[0], takers[2])]
    num_closed = takers[1].num_closed
    takers[1].gate.set()
    worker.join(30)

    assert others == [([0, 1, 2, 3, 4, 5], 1)] * 2
    assert num_closed == 0


def test_a_worker_that_comes_back_stays_out_of_the_way():
    """Where the one that hung returns while the others are given what waits, nobody is at an exporter twice at once."""
    takers = [Taker("a"), Taker("b"), Taker("c")]
    made = delivery(*takers)
    takers[0].gate.clear()
    worker = threading.Thread(target=made.flush)
    worker.start()
    wait_until(lambda: made._busy is made._outlets[0])

    def let_it_go():
        takers[0].gate.set()
        time.sleep(0.02)

    takers[2].on_export = let_it_go
    made.abandon()
    worker.join(30)

    assert [taker.steps for taker in takers] == [[0, 1, 2, 3, 4, 5]] * 3
    assert [taker.most_inside for taker in takers] == [1, 1, 1]
    assert [taker.num_closed for taker in takers] == [0, 1, 1]
    assert [taker.num_flushed for taker in takers] == [0, 0, 0]
