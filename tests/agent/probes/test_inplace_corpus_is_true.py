"""The in-place corpus is what it says: proven with PyTorch alone, without loopscope.

Outcomes by running each program beside its out-of-place reference; savers by anomaly mode; culprits by comparing all
that is saved for backward with a copy, before every line of the corpus that is executed.
"""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from tests.inplace_corpus import OUTCOMES, ROOT, Line, Program, programs
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

_MODIFIED = re.compile("has been modified by an inplace operation|has been modified inplace")
_TRACED_LINE = re.compile(r'File "(?P<path>[^"]+)", line (?P<number>\d+)')
# What is wrong here is no tensor saved for backward: without its graph, the gradient itself, an attribute, a buffer.
_NOT_SAVED = {
    "attribute_of_the_context",
    "counter_in_a_checkpoint",
    "gradient_in_a_hook",
    "recycled_buffer",
    "rescaled_without_grad",
    "scale_in_a_checkpoint",
}


def _each(*outcomes: str) -> pytest.MarkDecorator:
    chosen = [program for program in programs() if program.outcome in outcomes]
    return pytest.mark.parametrize("program", chosen, ids=lambda program: program.name)


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    yield
    torch._dynamo.reset()


class _Run:
    """A model in training, from a fixed seed."""

    def __init__(self, program: Program, **arguments: bool) -> None:
        torch.manual_seed(0)
        self.model, _, self._step = program.make(**arguments)
        self._random = torch.get_rng_state()

    def step(self, index: int) -> None:
        """Run a step with the random numbers that follow those of the steps before it."""
        torch.set_rng_state(self._random)
        self._step(index)
        self._random = torch.get_rng_state()

    def go(self, num_steps: int) -> None:
        """Run the first steps."""
        for index in range(num_steps):
            self.step(index)

    def gradients(self) -> dict[str, Tensor | None]:
        """Copies of all gradients by parameter."""
        named = self.model.named_parameters()
        return {name: None if each.grad is None else each.grad.detach().clone() for name, each in named}

    def buffers(self) -> dict[str, Tensor | None]:
        """Copies of all buffers by name."""
        return {name: each.clone() for name, each in self.model.named_buffers()}


def _relative_error(found: dict[str, Tensor | None], wanted: dict[str, Tensor | None]) -> float:
    """The norm of the difference of all tensors together, over the norm of the wanted ones."""
    names = sorted({name for name in (*found, *wanted) if found[name] is not None or wanted[name] is not None})

    def joined(tensors: dict[str, Tensor | None], like: dict[str, Tensor | None]) -> Tensor:
        parts = (torch.zeros_like(like[name]) if (each := tensors[name]) is None else each for name in names)
        return torch.cat([part.double().flatten() for part in parts])

    reference = joined(wanted, found)
    return float((joined(found, wanted) - reference).norm() / reference.norm())


def _same(found: dict[str, Tensor | None], wanted: dict[str, Tensor | None]) -> bool:
    return found.keys() == wanted.keys() and all(
        (each is None) == (wanted[name] is None) and (each is None or torch.equal(each, wanted[name]))
        for name, each in found.items()
    )


def test_corpus_is_as_large_as_it_is_said_to_be() -> None:
    """At least 30 that fail or are silently wrong, 20 harmless ones, each mark where it belongs, and no name twice."""
    names = [program.name for program in programs()]

    assert {program.outcome for program in programs()} == set(OUTCOMES)
    assert len(programs("raises")) + len(programs("silent")) >= 30
    assert len(programs("silent")) >= 12
    assert len(programs("harmless")) >= 20
    assert len(set(names)) == len(names)
    assert [each.name for each in programs("raises") if not (each.culprit_lines and each.saver_lines)] == []
    assert [each.name for each in programs("silent") if not each.culprit_lines] == []
    assert [each.name for each in programs("harmless") if each.culprit_lines or each.saver_lines] == []


@_each("raises")
def test_program_raises_in_its_last_step(program: Program) -> None:
    """PyTorch's own error, in the call that is named, and gradients are the reference's up to then."""
    run, reference = _Run(program), _Run(program, is_reference=True)
    for index in range(program.steps - 1):
        run.step(index)
        reference.step(index)
        assert _same(run.gradients(), reference.gradients())
    with pytest.raises(RuntimeError, match=_MODIFIED) as caught:
        run.step(program.steps - 1)

    in_corpus = [str(entry.statement) for entry in caught.traceback if Path(entry.path).is_relative_to(ROOT)]
    assert any(f".{program.raises_in}(" in statement for statement in in_corpus)


@_each("raises", "silent")
def test_reference_does_not_raise(program: Program) -> None:
    """Without the in-place operation the same training goes on for a step more, and reaches the parameters."""
    run = _Run(program, is_reference=True)
    run.go(program.steps + 1)

    gradients = [each for each in run.gradients().values() if each is not None]
    assert any(each.count_nonzero() for each in gradients)
    assert all(each.isfinite().all() for each in gradients)


@_each("silent")
def test_silent_program_is_wrong_without_an_error(program: Program) -> None:
    """What it leaves differs from the reference by more than rounding, in its last step and not before."""
    run, reference = _Run(program), _Run(program, is_reference=True)
    for index in range(program.steps):
        run.step(index)
        reference.step(index)
        if program.wrong == "buffers":
            assert _same(run.gradients(), reference.gradients())
            assert not _same(run.buffers(), reference.buffers())
        else:
            error = _relative_error(run.gradients(), reference.gradients())
            assert error > 1e-3 if index == program.steps - 1 else error == 0.0


@_each("harmless")
def test_harmless_program_trains(program: Program) -> None:
    """It runs on without an error, with the reference's gradients bit for bit."""
    run = _Run(program)
    reference = _Run(program, is_reference=True) if program.has_reference else None
    for index in range(program.steps):
        run.step(index)
        assert all(each is None or each.isfinite().all() for each in run.gradients().values())
        if reference is not None:
            reference.step(index)
            assert _same(run.gradients(), reference.gradients())


@_each("raises")
def test_saver_is_where_anomaly_mode_says(program: Program) -> None:
    """The innermost line of the corpus in anomaly mode's traceback of the forward call is a marked one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(RuntimeError, match=_MODIFIED), torch.autograd.detect_anomaly():
            _Run(program).go(program.steps)

    told, *_ = (str(each.message) for each in caught if "Error detected in" in str(each.message))
    lines = [Line(Path(mark["path"]), int(mark["number"])) for mark in _TRACED_LINE.finditer(told)]
    assert [line for line in lines if line.path.is_relative_to(ROOT)][-1] in program.saver_lines


class _Saved:
    """A tensor that is saved for backward, as it was."""

    def __init__(self, tensor: Tensor, saver: Line | None) -> None:
        self.tensor, self.saver, self.culprit = tensor, saver, None
        self._version, self._copy = tensor._version, tensor.detach().clone()

    def is_changed(self, *, by_content: bool) -> bool:
        """Whether it was written to since, as far as PyTorch counts it, or by its content."""
        if self.tensor._version != self._version:
            return True
        return by_content and not torch.equal(self.tensor.detach(), self._copy)


class _Watcher:
    """Who changed what is saved: checked before every line of the corpus, and behind every function of it."""

    def __init__(self, *, by_content: bool) -> None:
        self.used: list[_Saved] = []  # what backward got although it was changed
        self._by_content, self._saved, self._last = by_content, [], None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Trace and save within the block."""
        before = sys.gettrace()
        with saved_tensors_hooks(self._pack, self._unpack):
            sys.settrace(self._trace)
            try:
                yield
            finally:
                sys.settrace(before)

    def _pack(self, tensor: Tensor) -> _Saved:
        saved = _Saved(tensor, _corpus_line(sys._getframe()))
        self._saved.append(saved)
        return saved

    def _unpack(self, saved: _Saved) -> Tensor:
        self._check()
        if saved.culprit is not None:
            self.used.append(saved)
        return saved.tensor

    def _trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if not Path(frame.f_code.co_filename).is_relative_to(ROOT):
            return None
        self._check()
        self._last = _corpus_line(frame.f_back if event == "return" else frame)
        return self._trace

    def _check(self) -> None:
        for saved in self._saved:
            if saved.culprit is None and saved.is_changed(by_content=self._by_content):
                saved.culprit = self._last


def _corpus_line(frame: FrameType | None) -> Line | None:
    """The innermost line of the corpus on a stack."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT):
            return Line(path, frame.f_lineno)
        frame = frame.f_back
    return None


@contextlib.contextmanager
def _without_hooks(program: Program) -> Iterator[None]:
    """Have no checkpoints and no hooks but the watcher's: the program's would be asked instead of them."""
    module = sys.modules[program.make.__module__]

    def call(function: Callable[..., Any], *arguments: Any, use_reentrant: bool) -> Any:
        return function(*arguments)

    with contextlib.ExitStack() as stack:
        if program.outcome == "silent":
            if hasattr(module, "checkpoint"):
                stack.enter_context(patch.object(module, "checkpoint", call))
            for name in ("save_on_cpu", "saved_tensors_hooks"):
                stack.enter_context(patch.object(torch.autograd.graph, name, lambda *_, **__: contextlib.nullcontext()))
        yield


@_each("raises", "silent")
def test_culprits_and_savers_are_where_a_copy_differs(program: Program) -> None:
    """All that backward uses although it was changed, was changed and saved in marked lines, and there is some."""
    if program.name in _NOT_SAVED:
        pytest.skip("nothing that is saved for backward is changed: the reference alone proves it")
    watcher = _Watcher(by_content=program.outcome == "silent")
    run = _Run(program)
    with _without_hooks(program), watcher.watching():
        for index in range(program.steps):
            with contextlib.suppress(RuntimeError):  # a changed mask may no longer fit
                run.step(index)

    assert {saved.culprit for saved in watcher.used} == set(program.culprit_lines)
    assert {saved.saver for saved in watcher.used} == set(program.saver_lines)
