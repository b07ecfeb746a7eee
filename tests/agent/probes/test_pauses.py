"""Laws of the pauses: a collection that holds the loop up is told on its step, and the collector is left as it was."""

from __future__ import annotations

import gc
import itertools

from tests.loops import batch, network, watch
from torch.optim import SGD

from loopscope.guard import Guard
from loopscope.hooks import HookSet
from loopscope.probes.pauses import PauseProbe


class Knot:
    """An object that refers to itself: only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_callbacks_are_restored_exactly():
    """After detach the collector's callbacks are those from before, in their order, a user's among them."""

    def users(phase, info):
        """Do nothing."""

    before = list(gc.callbacks)
    gc.callbacks.append(users)
    try:
        model = network()
        with watch(model, SGD(model.parameters(), 0.1)) as watched:
            assert len(gc.callbacks) == len(before) + 2
            watched.agent.detach()
            watched.agent.detach()
        assert gc.callbacks == [*before, users]
    finally:
        gc.callbacks.remove(users)


def test_a_long_collection_is_in_the_report_of_its_step():
    """A collection over many objects shows in the pauses of the step that it was in, and in no other."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)

    def step():
        model(batch()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    kept = [Knot() for _ in range(300_000)]
    gc.collect()
    gc.disable()
    try:
        with watch(model, optimizer) as watched:
            step()
            gc.collect()
            step()
            step()
            pauses = [report.pauses for report in watched.reports]
    finally:
        gc.enable()
    del kept

    assert [list(each) for each in pauses] == [[], ["garbage_collection"], []]
    assert 0.001 < pauses[1]["garbage_collection"] < 30


def test_short_collections_do_not_add_up_over_steps():
    """Collections of the young generation take microseconds: they are no note, however many there were."""
    clock = itertools.count(1, 20_000)  # each look is 20 us after the one before
    probe = PauseProbe(HookSet(), Guard().at("probe.pauses"), lambda: next(clock))
    told = []
    for _ in range(2_000):
        for phase in ("start", "stop"):
            probe._see(phase, {"generation": 0})
        told += probe.collect()

    assert told == []
