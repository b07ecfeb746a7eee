"""Places: the user's line that an operator came from, and the line inside PyTorch where that is worth telling."""

from __future__ import annotations

import linecache
import os
import re
from types import CodeType, FrameType
from typing import NamedTuple, TypeAlias

import torch

from ...sites import Origin, origin_of, site_of, user_frame

__all__ = [
    "CHECKPOINT",
    "ENGINE",
    "FUNCTION",
    "Inner",
    "Place",
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


def place_of(frame: FrameType | None) -> Place | None:
    """Return the place that `frame`, or who called it, stands for; None where no line is anybody's."""
    own = user_frame(frame)
    if own is None:
        return None
    library = None
    while frame is not None and frame is not own and (library is None or library.startswith(_VAGUE)):
        library = _library(frame) or library
        frame = frame.f_back
    return Place(own.f_code.co_filename, own.f_lineno or 0, library)


def inner_of(frame: FrameType | None) -> Inner:
    """Return where inside of a checkpointed region `frame` is; the file is empty where only PyTorch's lines are."""
    library = None
    while frame is not None and frame.f_code.co_filename != CHECKPOINT:
        if origin_of(frame.f_code.co_filename) is not Origin.LIBRARY:
            return frame.f_code.co_filename, frame.f_lineno or 0, library
        library = library or _library(frame)
        frame = frame.f_back
    return "", 0, library


def _library(frame: FrameType) -> str | None:
    filename = frame.f_code.co_filename
    if not filename.startswith(_TELLING) or filename.endswith(_CONTAINERS):
        return None
    return f"torch/{filename[len(_TORCH) :].replace(os.sep, '/')}:{frame.f_lineno}"


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
        if not (origin_of(code.co_filename) is Origin.LIBRARY and not _is_telling(code.co_filename)):
            frames.append(frame)
        frame = frame.f_back
    return frames


def _is_telling(filename: str) -> bool:
    return filename == FUNCTION[0] or filename == CHECKPOINT or filename.startswith(_TELLING)


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
