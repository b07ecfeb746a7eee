"""Laws of compile events: programs with known events, lines and counts, and dynamo's own counters as the judge."""

from __future__ import annotations

import functools
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
from tests.compiling import Run, watch_compiling
from tests.corpus.compiles import breaks, clean, fallbacks, rates, recompilations
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),  # dynamo looks at it
    pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace"),
]
_MARK = re.compile(r"# -> (?P<events>.+)$")
_EVENT = re.compile(r"^(?P<info>info )?(?P<kind>\w+) (?P<category>\w+)(?: x(?P<times>\d+))?$")
_ALSO_BY_INDUCTOR = {
    "another_batch_size",
    "branch_on_data",
    "float_learning_rate",
    "full_graph",
    "item",
    "sequential",
    "train_and_eval",
}
_Program = Callable[[Any], None]


class _Told(NamedTuple):
    severity: str
    kind: str
    category: object
    site: str | None


def _programs(*modules: ModuleType) -> Any:
    found = [
        value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isfunction(value) and not name.startswith("_") and value.__module__ == module.__name__
    ]
    return pytest.mark.parametrize("program", found, ids=lambda program: program.__name__)


def _told(run: Run) -> Counter[_Told]:
    """What there is to be told beside first compilations."""
    return Counter(
        _Told(found.severity, found.kind, found.attributes["category"], found.site)
        for found in run.findings
        if found.kind != "compilation"
    )


def _expected(program: _Program) -> Counter[_Told]:
    lines, first = inspect.getsourcelines(program)
    path = Path(inspect.getsourcefile(program) or "").relative_to(Path.cwd())
    expected: Counter[_Told] = Counter()
    for number, line in enumerate(lines, first):
        mark = _MARK.search(line)
        for text in mark["events"].split(", ") if mark else ():
            event = _EVENT.match(text)
            assert event, text
            severity = "info" if event["info"] else "warning"
            expected[_Told(severity, event["kind"], event["category"], f"{path}:{number}")] = int(event["times"] or 1)
    return expected


def _counted() -> dict[str, Counter[str]]:
    """All counters of dynamo's, without the addresses that some texts have."""
    counted: dict[str, Counter[str]] = {}
    for name, values in counters.items():
        counted[name] = Counter()
        for text, number in values.items():
            counted[name][re.sub(r"0x[0-9a-f]+", "", str(text))] += number
    return counted


def _with(backend: Any) -> Any:
    return functools.partial(torch.compile, backend=backend)


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@_programs(clean, recompilations, rates, breaks, fallbacks)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_every_event_has_its_line_its_category_and_its_severity(program: _Program, backend: str) -> None:
    """Nothing is told that is not marked in the program, and all that is marked is told, as often as it happens."""
    run = watch_compiling(lambda: program(_with(backend)))

    assert _told(run) == _expected(program)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")
@_programs(clean, recompilations, rates, breaks)
def test_inductor_makes_no_difference(program: _Program) -> None:
    """The events of a backend that generates code are the same."""
    if program.__name__ not in _ALSO_BY_INDUCTOR:
        return
    run = watch_compiling(lambda: program(_with("inductor")))

    assert _told(run) == _expected(program)


@_programs(clean)
def test_a_clean_program_is_silent(program: _Program) -> None:
    """What a healthy loop does is told as information, never as a warning."""
    run = watch_compiling(lambda: program(_with("aot_eager")))

    assert {found.severity for found in run.findings} == {"info"}


@_programs(clean, recompilations, rates, breaks, fallbacks)
def test_counts_are_those_of_dynamo(program: _Program) -> None:
    """Compilations are the graphs that the backend got; breaks are what dynamo counts as such.

    It has neither branches on data nor functions that it gives up as a whole among its `graph_break`s: these are among
    what it counts as `unimplemented`.
    """
    backend = CompileCounterWithBackend("eager")

    run = watch_compiling(lambda: program(_with(backend)))

    assert run.count("compilations") == backend.frame_count == counters["stats"]["unique_graphs"]
    num_breaks, num_more = sum(counters["graph_break"].values()), sum(counters["unimplemented"].values())
    assert num_breaks <= run.count("graph_breaks") <= num_breaks + num_more


@_programs(clean, recompilations, rates, breaks, fallbacks)
def test_a_watched_program_compiles_what_an_unwatched_one_does(program: _Program) -> None:
    """Graphs, breaks, resumed frames and recompilations are those of a run without the probe."""
    bare, watched = CompileCounterWithBackend("eager"), CompileCounterWithBackend("eager")
    program(_with(bare))
    by_bare = _counted()
    torch._dynamo.reset()
    counters.clear()

    watch_compiling(lambda: program(_with(watched)))

    assert (watched.frame_count, watched.op_count) == (bare.frame_count, bare.op_count)
    assert _counted() == by_bare


@_programs(clean, recompilations, rates, breaks, fallbacks)
def test_every_event_says_what_to_do(program: _Program) -> None:
    """Warnings have a remedy and a frame; recompilations name the guard, the id and the number of variants."""
    run = watch_compiling(lambda: program(_with("eager")))

    for found in run.findings:
        assert found.attributes["frame"]
        assert found.remedy or found.kind == "compilation"
        if found.kind == "recompilation":
            assert {"guard", "reason", "category", "compile_id", "variants"} <= set(found.attributes)
            assert found.attributes["variants"] == int(str(found.attributes["compile_id"]).rpartition("/")[2]) + 1
