"""Laws of the sync probe in its simulation: programs with known syncs, each at its line, and clean loops silent."""

from __future__ import annotations

import inspect
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from tests.corpus.syncs import clean, elsewhere, operators, scalars, training
from tests.workload import mlp

import loopscope
from loopscope.catalog import SYNC_KINDS
from loopscope_exporters.memory import MemoryExporter

_MARK = re.compile(r"# -> (?P<kinds>[^#(]+?)(?: \((?P<program>\w+)\))?$")
_FILES = (scalars, operators, training, elsewhere)
_ROOT = Path(__file__).parents[3]


class _Sync(NamedTuple):
    kind: str
    site: str


def _programs(*modules: ModuleType) -> dict[str, Callable[..., object]]:
    """The public functions of corpus files by name."""
    return {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }


_WAITING = _programs(scalars, operators, training)
_CLEAN = _programs(clean)


def _marks(program: Callable[..., object]) -> Iterator[tuple[str, int, str]]:
    """Kind, number and site of each mark in the program's lines, and of those that name it elsewhere."""
    lines, first = inspect.getsourcelines(program)
    home = inspect.getsourcefile(program)
    for module in _FILES:
        path = inspect.getsourcefile(module)
        assert path is not None
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            mark = _MARK.search(line)
            if mark is None:
                continue
            is_inside = path == home and first <= number < first + len(lines) and mark["program"] is None
            if is_inside or mark["program"] == program.__name__:
                for kind in mark["kinds"].split(", "):
                    name, _, times = kind.strip().partition(" x")
                    yield name, int(times or 1), f"{Path(path).relative_to(_ROOT)}:{number}"


def _expected(program: Callable[..., object]) -> Counter[_Sync]:
    expected: Counter[_Sync] = Counter()
    for kind, times, site in _marks(program):
        expected[_Sync(kind, site)] += times
    return expected


class _Run(NamedTuple):
    counts: Counter[_Sync]
    events: tuple[loopscope.Event, ...]


def run_simulated(program: Callable[..., object], **settings: Any) -> _Run:
    """Run a program under an agent that takes the CPU for a device; return what was counted and told."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters())  # kept: an agent whose optimizer is gone detaches itself
    memory = MemoryExporter(history=10_000)
    agent = loopscope.attach(
        model, optimizer, port=None, sync_device="cpu", exporters=(memory,), log_events=False, **settings
    )
    with agent:
        if inspect.signature(program).parameters:
            program(agent)
        else:
            program()
        assert agent.flush(10)
    assert agent.internal_errors == {}
    report = memory.latest_activity
    found = {} if report is None else report.counters.get("loopscope.device.syncs", {})
    counts = Counter({_Sync(kind, site): int(value) for (site, kind), value in found.items()})
    return _Run(counts, tuple(event for event in memory.events if event.kind == "device_sync"))


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_ROOT)


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_corpus_is_as_large_as_it_is_said_to_be() -> None:
    """At least 18 programs that wait, of every kind there is, each with its marks, and 7 that do not."""
    kinds = {kind for program in _WAITING.values() for kind, _, _ in _marks(program)} - {"any"}

    assert len(_WAITING) >= 18
    assert len(_CLEAN) >= 7
    assert kinds == set(SYNC_KINDS)
    assert [name for name, program in _WAITING.items() if not _expected(program)] == ["raises"]


@pytest.mark.parametrize("name", [name for name in _WAITING if name != "closure_of_lbfgs"])
def test_each_sync_is_counted_at_its_line(name: str) -> None:
    """Kind, line and number are those of the marks beside the code, and nothing else is counted."""
    counts = run_simulated(_WAITING[name]).counts

    assert counts == _expected(_WAITING[name])


@pytest.mark.parametrize("name", _WAITING)
def test_first_sync_of_each_line_is_an_event(name: str) -> None:
    """One event for each kind and line, at `info`, with a remedy."""
    run = run_simulated(_WAITING[name])

    assert {_Sync(str(event.attributes["sync"]), str(event.site)) for event in run.events} == set(run.counts)
    assert len(run.events) == len(run.counts)
    assert all(event.severity == "info" and event.remedy for event in run.events)


def test_syncs_of_a_long_call_are_on_its_line() -> None:
    """Whatever LBFGS reads, it reads it at the line of the step."""
    ((_, _, site),) = _marks(_WAITING["closure_of_lbfgs"])

    counts = run_simulated(_WAITING["closure_of_lbfgs"]).counts

    assert {sync.site for sync in counts} == {site}
    assert sum(counts.values()) >= 4


@pytest.mark.parametrize("name", _CLEAN)
def test_clean_loops_are_silent(name: str) -> None:
    """Nothing is counted where nothing would wait, not even what the agent reads itself."""
    run = run_simulated(_CLEAN[name], overhead_budget=1.0)

    assert run == (Counter(), ())


@pytest.mark.parametrize("backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.skipif(
    shutil.which("g++") is None, reason="inductor needs g++"))])  # fmt: skip
def test_compiled_clean_loop_is_silent(backend: str) -> None:
    """Compiling reads nothing of the user's, and compiled code waits for nothing."""

    def program() -> None:
        model = mlp()
        optimizer, compiled = torch.optim.Adam(model.parameters()), torch.compile(model, backend=backend)
        for size in (4, 6, 8):
            compiled(torch.ones(size, 8)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    assert run_simulated(program) == (Counter(), ())
