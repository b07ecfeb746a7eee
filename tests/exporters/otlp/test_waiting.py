"""Laws of what waits: in order, bounded, the oldest gives way, and every message is delivered, waiting or counted."""

from __future__ import annotations

import random

import pytest

from loopscope_exporters.otlp.answers import Outcome
from loopscope_exporters.otlp.environment import Pace
from loopscope_exporters.otlp.waiting import Waiting


def waiting(max_waiting=6, max_batch=2):
    """Return a queue of numbers up to 255, which are their own encoding."""
    return Waiting(bytes, Pace(max_waiting=max_waiting, max_batch=max_batch, delay_seconds=1.0))


def put(queue, *numbers):
    """Put several."""
    for number in numbers:
        queue.put(number)


def test_batches_come_in_order():
    """Batches are as long as they may be, oldest first; then there is nothing."""
    queue = waiting()
    put(queue, 1, 2, 3)
    batches = []
    while (batch := queue.take(is_last=False)) is not None:
        batches.append(list(batch))
        queue.settle(Outcome.DELIVERED, 0)

    assert batches == [[1, 2], [3]]
    assert queue.num_dropped == 0


def test_the_oldest_gives_way():
    """Beyond the bound the oldest are dropped, and counted."""
    queue = waiting()
    put(queue, *range(10))

    assert list(queue.take(is_last=False)) == [4, 5]
    assert queue.num_dropped == 4


def test_a_batch_that_failed_comes_again_first():
    """What may be sent again keeps its place; where others have filled the queue meanwhile its oldest give way."""
    queue = waiting()
    put(queue, 1, 2, 3)
    queue.take(is_last=False)
    put(queue, 4, 5, 6, 7)
    queue.settle(Outcome.RETRY, 0)

    assert list(queue.take(is_last=False)) == [2, 3]
    assert queue.num_dropped == 1


@pytest.mark.parametrize(
    ("outcome", "num_rejected", "num_dropped"),
    [(Outcome.DELIVERED, 0, 0), (Outcome.DELIVERED, 1, 1), (Outcome.REFUSED, 0, 2)],
)
def test_what_is_refused_is_counted_and_not_sent_again(outcome, num_rejected, num_dropped):
    """A refused batch would be refused again, and a part that was rejected cannot be told from the rest."""
    queue = waiting()
    put(queue, 1, 2)
    queue.take(is_last=False)
    queue.settle(outcome, num_rejected)

    assert queue.take(is_last=False) is None
    assert queue.num_dropped == num_dropped


def test_is_full_with_a_batch():
    """A whole batch is reason to send before the time."""
    queue = waiting()
    put(queue, 1)
    before = queue.is_full
    put(queue, 2)

    assert (before, queue.is_full) == (False, True)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_without_being_counted(seed):
    """In any order of events: put = delivered + dropped, at the end."""
    draw, queue = random.Random(seed), waiting(20, 7)
    num_put = num_delivered = 0
    for _ in range(300):
        for _ in range(draw.randrange(4)):
            queue.put(1)
            num_put += 1
        batch = queue.take(is_last=False) if draw.random() < 0.5 else None
        if batch is not None:
            outcome = draw.choice(list(Outcome))
            queue.settle(outcome, 0)
            num_delivered += len(batch) if outcome is Outcome.DELIVERED else 0
    queue.abandon()

    assert num_put == num_delivered + queue.num_dropped
    assert queue.take(is_last=False) is None
