"""Real syncs on a CUDA device: every kind is found at its line, and none is added by the agent."""

from __future__ import annotations

import contextlib
import inspect
import time
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import loopscope
from loopscope_exporters.memory import MemoryExporter

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def _helper(value: Tensor) -> float:
    return value.sum().item()


PROGRAMS: dict[str, tuple[str, Callable[[Tensor, Tensor], object]]] = {
    "item()": ("item", lambda x, mask: x.sum().item()),
    "bool(tensor)": ("bool", lambda x, mask: bool(x.sum() > 0)),
    "float(tensor)": ("float", lambda x, mask: float(x.sum())),
    "int(tensor)": ("int", lambda x, mask: int(x.sum())),
    "tolist()": ("tolist", lambda x, mask: x.tolist()),
    "cpu()": ("cpu", lambda x, mask: x.cpu()),
    "numpy(force=True)": ("numpy", lambda x, mask: x.numpy(force=True)),
    "repr(tensor)": ("print", lambda x, mask: repr(x)),
    "an f-string": ("format", lambda x, mask: f"{x.sum():.3f}"),
    "torch.cuda.synchronize()": ("synchronize", lambda x, mask: torch.cuda.synchronize()),
    "x[mask]": ("mask", lambda x, mask: x[mask]),
    "nonzero": ("nonzero", lambda x, mask: torch.nonzero(x)),
    "where(condition)": ("nonzero", lambda x, mask: torch.where(mask)),
    "unique": ("unique", lambda x, mask: torch.unique(x)),
    "masked_select": ("masked_select", lambda x, mask: x.masked_select(mask)),
    "to('cpu')": ("copy", lambda x, mask: x.to("cpu")),
    "from pageable memory": ("copy", lambda x, mask: torch.ones(4).to("cuda")),
    "masked_fill with a number of the device": ("operator", lambda x, mask: x.masked_fill(mask, x.min())),
    "repeat_interleave": ("operator", lambda x, mask: torch.repeat_interleave(x, mask.long())),
}
NOT_WAITING: dict[str, Callable[[Tensor, Tensor], object]] = {
    "where of three": lambda x, mask: torch.where(mask, x, 0.0),
    "masked_fill": lambda x, mask: x.masked_fill(mask, 0.0),
    "one number under a mask": lambda x, mask: x.clone().__setitem__(mask, 0.0),
    "an index of integers": lambda x, mask: x[torch.arange(4, device="cuda")],
    "to host without waiting": lambda x, mask: x.to("cpu", non_blocking=True),
    "histc with bounds": lambda x, mask: torch.histc(x, bins=4, min=-1, max=1),
    "sum, kept on the device": lambda x, mask: x.sum().detach(),
}


@contextlib.contextmanager
def _watched():
    torch.manual_seed(0)
    model, memory = nn.Linear(16, 16).cuda(), MemoryExporter(10_000)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs = torch.randn(8, 16, device="cuda")

    def step() -> None:
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()

    step()
    with loopscope.attach(
        model, optimizer, port=None, exporters=(memory,), strict=True, sync_interval=1, log_events=False
    ) as agent:
        step()
        yield agent, memory, step


def _counts(memory: MemoryExporter) -> dict[tuple[str, str], float]:
    activity = memory.latest_activity
    return {} if activity is None else dict(activity.counters.get("loopscope.device.syncs", {}))


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_kind_is_found_at_its_line(name, row):
    """Three syncs of a kind are three at the line of the program, under that kind, and nothing else is counted."""
    kind, program = PROGRAMS[name]
    values = torch.randn(64, device="cuda")
    mask = values > 0
    with _watched() as (agent, memory, step):
        for _ in range(3):
            program(values, mask)
            step()
        assert agent.flush(10)
    line = inspect.getsourcelines(program)[1]
    found = {(site.rpartition("/")[2], found_kind): count for (site, found_kind), count in _counts(memory).items()}
    row(f"sync: {name}", ", ".join(f"{k} x{n:.0f} at {s}" for (s, k), n in found.items()), f"{kind} x3 at line {line}")
    assert found == {(f"test_syncs.py:{line}", kind): 3}


@pytest.mark.parametrize("name", NOT_WAITING)
def test_what_does_not_wait_is_not_counted(name, row):
    """Programs that never wait, as sync debug mode `error` proves, are silent."""
    program = NOT_WAITING[name]
    values = torch.randn(64, device="cuda")
    mask = values > 0
    with _watched() as (agent, memory, step):
        for _ in range(3):
            program(values, mask)
            step()
        assert agent.flush(10)
    row(f"no sync: {name}", str(_counts(memory) or "none"), "none")
    assert not _counts(memory)


def test_sync_in_a_backward_names_the_line_of_backward(row):
    """A sync on autograd's own thread is put at the main thread's line, and the record says so."""

    class Waits(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            torch.nonzero(gradient)
            return gradient

    weight = torch.ones(4, device="cuda", requires_grad=True)
    with _watched() as (agent, memory, step):
        Waits.apply(weight).sum().backward()
        step()
        assert agent.flush(10)
    syncs = [sync for report in memory.steps for sync in report.syncs]
    row("sync in a backward", ", ".join(f"{s.kind} at {s.site.rpartition('/')[2]}" for s in syncs), "one")
    assert len(syncs) == 1


def test_agent_adds_no_sync_in_100_steps(row):
    """100 steps under sync debug mode `error`, with all probes on, raise nothing; the mode is left as it was."""
    with _watched() as (agent, memory, step):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and len(memory.steps) < 20:  # kernels are compiled meanwhile
            step()
            time.sleep(0.05)
            agent.flush(5)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
            try:
                for _ in range(100):
                    step()
            finally:
                mode = torch.cuda.get_sync_debug_mode()
                torch.cuda.set_sync_debug_mode("default")
        assert agent.flush(10)
        assert agent.internal_errors == {}
    row("syncs that the agent adds in 100 steps", "0 (none raised)", "0")
    assert mode == 2
    assert torch.cuda.get_sync_debug_mode() == 0


def test_users_debug_mode_is_left_alone():
    """A debug mode that the user has set stays, and their warnings come through."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with _watched() as (agent, _, step):
                for _ in range(3):
                    step()
                torch.ones(4, device="cuda").nonzero()
                assert torch.cuda.get_sync_debug_mode() == 1
                assert agent.flush(10)
            assert torch.cuda.get_sync_debug_mode() == 1
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert sum("synchronizing CUDA operation" in str(warning.message) for warning in shown) == 1
