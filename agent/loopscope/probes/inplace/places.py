"""Places: the user's line that an operator came from, and the line inside PyTorch where that is worth telling."""

from __future__ import annotations

import functools
import linecache
import os
import re
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeAlias

import torch

from ...sites import Origin, origin_of, site_of

__all__ = [
    "CHECKPOINT",
    "ENGINE",
    "FUNCTION",
    "Inner",
    "Place",
    "Trail",
    "frames_of_call",
    "inner_of",
    "is_inside",
    "is_running",
    "place_of",
    "text_of",
]

_TORCH = torch.__path__[0] + os.sep
_TELLING = tuple(_TORCH + folder + os.sep for folder in ("nn", "optim"))
_VAGUE = "torch/nn/functional.py"
"""The module that called it tells more."""
_CONTAINERS = (f"modules{os.sep}module.py", f"modules{os.sep}container.py")
_COMMENT = re.compile(r"(?<=\S)\s+#[^'\"]*$")
_MAX_TEXT = 120
_MAX_FRAMES = 100
_MAX_FILES = 10_000
_NEAR_FRAMES = 12

ENGINE = (f"{_TORCH}autograd{os.sep}graph.py", "_engine_run_backward")
FUNCTION = (f"{_TORCH}autograd{os.sep}function.py", "apply")
CHECKPOINT = f"{_TORCH}utils{os.sep}checkpoint.py"


Inner: TypeAlias = tuple[str, int, str | None]
"""Where in a checkpointed region something is: the same in the forward and in its recomputation."""


class Place(NamedTuple):
    """A line of the user's, and what of PyTorch it had called."""

    filename: str
    line: int
    library: str | None = None
    """`torch/optim/adam.py:546`, where an optimizer or a module did it."""

    @property
    def site(self) -> str:
        """The line as `path/file.py:line`."""
        return site_of(self.filename, self.line)


class _File(NamedTuple):
    """What a source file is to the lines in it."""

    origin: Origin
    library: str | None
    """Its name inside PyTorch, where lines in it are worth telling."""
    is_of_call: bool
    """Whether a frame in it says what an operator of backward is part of."""


class Trail:
    """A place that is worked out only if somebody asks for it, as hardly anybody does.

    PyTorch notes the stack in C++ in less than 1 us; walking it in Python takes 15 us below a few modules.
    """

    __slots__ = ("_captured", "_place")

    def __init__(self, place: Place | None = None, captured: Any = None) -> None:
        self._place, self._captured = place, captured

    @classmethod
    def of(cls, frame: FrameType | None) -> Trail:
        """Return that of `frame`, which is on the stack of this thread with nothing but ours inside of it."""
        gather = getattr(torch._C._profiler, "gather_traceback", None)  # private
        return cls(place_of(frame)) if gather is None else cls(captured=gather(True, False, False))

    @property
    def place(self) -> Place | None:
        """The place."""
        if self._captured is not None:
            (lines,) = torch._C._profiler.symbolize_tracebacks([self._captured])
            self._place, self._captured = _place((each["filename"], int(each["line"])) for each in lines), None
        return self._place


def place_of(frame: FrameType | None) -> Place | None:
    """Return the place that `frame`, or who called it, stands for; None where no line is anybody's."""
    return _place(_lines_from(frame))


def _lines_from(frame: FrameType | None) -> Iterator[tuple[str, int]]:
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno or 0
        frame = frame.f_back


def _place(lines: Iterable[tuple[str, int]]) -> Place | None:
    """Return the place of a stack, innermost line first: as `sites.user_frame`, with what of PyTorch's was called."""
    library: str | None = None
    package: Place | None = None
    for filename, line in lines:
        file = _file_of(filename)
        if file.origin is Origin.USER:
            return Place(filename, line, library)
        if file.origin is Origin.PACKAGE and package is None:
            package = Place(filename, line, library)
        elif file.origin is Origin.OURS and package is None:
            return None
        elif file.library is not None and (library is None or library.startswith(_VAGUE)):
            library = f"{file.library}:{line}"
    return package


def inner_of(frame: FrameType | None) -> Inner:
    """Return where inside of a checkpointed region `frame` is; the file is empty where only PyTorch's lines are."""
    library = None
    while frame is not None and frame.f_code.co_filename != CHECKPOINT:
        if _file_of(frame.f_code.co_filename).origin is not Origin.LIBRARY:
            return frame.f_code.co_filename, frame.f_lineno or 0, library
        library = library or _library(frame)
        frame = frame.f_back
    return "", 0, library


def _library(frame: FrameType) -> str | None:
    library = _file_of(frame.f_code.co_filename).library
    return None if library is None else f"{library}:{frame.f_lineno}"


@functools.lru_cache(_MAX_FILES)
def _file_of(filename: str) -> _File:
    origin = origin_of(filename)
    is_telling = filename.startswith(_TELLING)
    library = None
    if is_telling and not filename.endswith(_CONTAINERS):
        library = f"torch/{filename[len(_TORCH) :].replace(os.sep, '/')}"
    is_of_call = origin is not Origin.LIBRARY or is_telling or filename in {FUNCTION[0], CHECKPOINT}
    return _File(origin, library, is_of_call)


def text_of(place: Place | None) -> str:
    """Return the source line, empty where there is none."""
    text = "" if place is None else linecache.getline(place.filename, place.line).strip()
    return _COMMENT.sub("", text)[:_MAX_TEXT]


def frames_of_call(frame: FrameType | None) -> list[FrameType]:
    """Return the frames from `frame` outwards up to the autograd engine, innermost first, ours and torch's dispatch
    left out; empty where the engine itself ran the operator.
    """
    frames: list[FrameType] = []
    while frame is not None and len(frames) < _MAX_FRAMES:
        code = frame.f_code
        if (code.co_filename, code.co_name) == ENGINE:
            break
        if _file_of(code.co_filename).is_of_call:
            frames.append(frame)
        frame = frame.f_back
    return frames


def is_inside(frame: FrameType | None, file_and_name: tuple[str, str]) -> FrameType | None:
    """Return the frame of this function on the way from `frame` to the autograd engine, None where there is none."""
    while frame is not None:
        code = frame.f_code
        if (code.co_filename, code.co_name) == file_and_name:
            return frame
        if (code.co_filename, code.co_name) == ENGINE:
            return None
        frame = frame.f_back
    return None


def is_running(frame: FrameType | None, code: CodeType) -> bool:
    """Whether a function of this code is close by on the stack."""
    for _ in range(_NEAR_FRAMES):
        if frame is None or frame.f_code is code:
            break
        frame = frame.f_back
    return frame is not None and frame.f_code is code
