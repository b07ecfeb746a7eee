"""Laws of the in-place probe on the corpus: lines exact, silent programs found, harmless ones left alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tests.inplace_corpus import Line, Program, programs

import loopscope
from loopscope_exporters.memory import MemoryExporter

_ROOT = Path(__file__).parents[3]
_ALWAYS = 1_000


class _Run(NamedTuple):
    error: RuntimeError | None
    events: tuple[loopscope.Event, ...]
    gradients: list[torch.Tensor]


def _run(program: Program, armed_steps: int) -> _Run:
    """Run a program up to its failure under an agent that is armed for so many steps."""
    torch.manual_seed(0)
    model, optimizer, step = program.make()
    memory, error = MemoryExporter(history=10_000), None
    agent = loopscope.attach(
        model, optimizer, port=None, exporters=(memory,), log_events=False, inplace_armed_steps=armed_steps
    )
    with agent:
        try:
            for index in range(program.steps):
                step(index)
        except RuntimeError as raised:
            error = raised
        assert agent.flush(10)
    assert agent.internal_errors == {}
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    return _Run(error, tuple(event for event in memory.events if event.kind.startswith("inplace_")), gradients)


def _alarms(run: _Run) -> list[loopscope.Event]:
    return [event for event in run.events if event.severity != "info"]


def _sites(lines: tuple[Line, ...]) -> set[str]:
    return {f"{line.path.relative_to(_ROOT)}:{line.number}" for line in lines}


def _named(*outcomes: str) -> list[Any]:
    return [pytest.param(each, id=each.name) for outcome in outcomes for each in programs(outcome)]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(_ROOT)
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("program", _named("raises", "silent"))
def test_the_lines_are_named(program: Program) -> None:
    """Every event is at a line that modifies, and one of them names a line that had saved."""
    alarms = _alarms(_run(program, _ALWAYS))

    assert alarms
    assert {event.site for event in alarms} <= _sites(program.culprit_lines)
    savers = {str(event.attributes.get("saved_site")) for event in alarms}
    assert not program.saver_lines or savers & _sites(program.saver_lines)
    assert all(event.remedy for event in alarms)


@pytest.mark.parametrize("program", _named("raises"))
def test_the_exception_has_one_note_with_both_lines(program: Program) -> None:
    """The note says what the event says."""
    run = _run(program, _ALWAYS)

    assert run.error is not None
    (note,) = run.error.__notes__
    assert note.startswith("loopscope: ")
    assert any(site in note for site in _sites(program.culprit_lines))
    assert any(event.message.removesuffix(".") in note for event in run.events)


@pytest.mark.parametrize("program", _named("silent"))
def test_the_silent_is_a_corruption(program: Program) -> None:
    """It is critical where gradients are wrong, a warning where only a buffer is."""
    severity = "critical" if program.wrong == "gradients" else "warning"

    assert ("inplace_corruption", severity) in {(event.kind, event.severity) for event in _run(program, _ALWAYS).events}


@pytest.mark.parametrize("program", _named("harmless"))
def test_the_harmless_is_silent(program: Program) -> None:
    """No event of severity warning or above."""
    assert _alarms(_run(program, _ALWAYS)) == []


@pytest.mark.parametrize("program", _named("raises", "silent", "harmless"))
def test_nothing_is_changed(program: Program) -> None:
    """Gradients up to the failure and the error's type, arguments and text are those of the run that is not armed."""
    armed, bare = _run(program, _ALWAYS), _run(program, 0)

    assert type(armed.error) is type(bare.error)
    with contextlib.suppress(AttributeError):
        assert armed.error.args == bare.error.args
    assert len(armed.gradients) == len(bare.gradients)
    for one, other in zip(armed.gradients, bare.gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
