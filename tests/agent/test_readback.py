"""Laws of the readback: a ring of fixed slots that never waits, and hands out what the worker gave back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loopscope.readback import Ring, is_capturing

COLUMNS = {"norm_pieces": 3, "scalars": 2}
CPU = torch.device("cpu")


@pytest.fixture
def ring():
    """A ring of three slots."""
    return Ring(3, COLUMNS, CPU, torch.float32, unbound=("scalars",))


def test_slots_are_taken_in_turn_and_given_back_in_turn(ring):
    """A ring has as many slots as it says; one that was given back is handed out again."""
    slots = []
    for _ in range(3):
        slot = ring.acquire()
        slot.commit()
        slots.append(slot)

    assert len({id(slot) for slot in slots}) == 3
    assert ring.acquire() is None
    slots[0].release()
    assert ring.acquire() is slots[0]


def test_full_ring_recovers_where_it_stopped(ring):
    """Where no slot was free nothing moves: the slot that comes free next is the one that is taken next."""
    slots = [ring.acquire() for _ in range(3) if True]
    assert slots[0] is not slots[1]
    for slot in slots:
        slot.commit()
    assert [ring.acquire() for _ in range(5)] == [None] * 5
    for slot in slots:
        slot.release()

    assert [ring.acquire() for _ in range(3)] == slots


def test_slot_that_was_never_committed_can_be_taken_again(ring):
    """A step that raised leaves its slot to a later one."""
    for _ in range(10):
        assert ring.acquire() is not None


def test_values_are_read_as_they_were_written(ring):
    """On the CPU the columns are the host's memory: what was written is read, by name, without a copy."""
    slot = ring.acquire()
    slot.columns["norm_pieces"].copy_(torch.tensor([1.0, 2.0, 3.0]))
    slot.elements["scalars"][1].fill_(7.0)
    slot.commit()

    assert slot.is_ready()
    assert slot.read()["norm_pieces"].tolist() == [1.0, 2.0, 3.0]
    assert slot.read()["scalars"][1] == 7.0
    assert np.shares_memory(slot.read()["norm_pieces"], slot.host["norm_pieces"])


@pytest.mark.parametrize(
    ("key", "unbound", "does_fit"),
    [
        ((COLUMNS, CPU, torch.float32), ("scalars",), True),
        (({"norm_pieces": 4, "scalars": 2}, CPU, torch.float32), ("scalars",), False),
        (({"norm_pieces": 3}, CPU, torch.float32), (), False),
        ((COLUMNS, torch.device("meta"), torch.float32), ("scalars",), False),
        ((COLUMNS, CPU, torch.float64), ("scalars",), False),
        ((COLUMNS, CPU, torch.float32), ("scalars", "norm_pieces"), False),
    ],
)
def test_ring_fits_only_what_it_was_made_for(ring, key, unbound, does_fit):
    """A ring is used for the columns, the device, the dtype and the elements that it has."""
    assert ring.fits(*key, unbound=unbound) is does_fit


def test_no_graph_is_captured_without_cuda():
    """Where CUDA was never used nothing is being captured, and asking does not start it."""
    assert not is_capturing()
    assert not torch.cuda.is_initialized()


def test_lost_slot_costs_one_slot(ring):
    """A slot that never comes back, its step having been interrupted, does not stop the others."""
    for _ in range(3):
        ring.acquire().commit()
    others = [ring._slots[0], ring._slots[2]]
    for slot in others:
        slot.release()

    assert [ring.acquire() for _ in range(4)] == others * 2
