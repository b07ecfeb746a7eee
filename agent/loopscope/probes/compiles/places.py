"""Where things are, from the texts that dynamo makes of them: lines in its messages, names of its frames."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from ...sites import Origin, origin_of, site_of

__all__ = ["BreakText", "FrameName", "Line", "frame_name", "lines_of_stack", "parse_break", "place_of", "user_line"]

_RESUMED = re.compile(r"^(?:torch_dynamo_resume_in|__resume)_(?P<name>.+)_at_(?P<line>\d+)$")
_STACK_ENTRY = re.compile(r"^Line: (\d+), Name: (.*), Filename: (.*)$")
_TRACEBACK_ENTRY = re.compile(r'^\s*File "(?P<file>.+?)", line (?P<line>\d+)', re.MULTILINE)
_LOCATION = re.compile(r"[Gg]raph break.*? in user code at (?P<file>.+?):(?P<line>\d+)$", re.MULTILINE)
_REASON = re.compile(r"^(?:Graph Break )?Reason: ", re.MULTILINE)
_STACK_HEAD = re.compile(r"user code(?: traceback)?(?: at)?:[ \t]*$", re.MULTILINE | re.IGNORECASE)
_MODULE_CALL = "torch/nn/modules/module.py"
_ANY_CALLABLE = "inner"
"""The function of dynamo's own in which it compiles what has no Python code of the user's, `nn.Sequential` for one."""
_MAX_TEXT = 4_000


class Line(NamedTuple):
    """A line of a source file."""

    file: str
    number: int

    @property
    def site(self) -> str:
        """The line as metrics and events show it."""
        return site_of(self.file, self.number)


class FrameName(NamedTuple):
    """A code object's name and place; of the rest of a function behind a break, those of the function and the break."""

    name: str
    line: Line
    is_resumed: bool

    def label(self, place: Line) -> str:
        """Return `name (file.py:line)`."""
        return f"{self.name} ({PurePath(place.file).name}:{place.number})"


class BreakText(NamedTuple):
    """What a message about a graph break says."""

    location: Line | None
    site: Line | None
    """The innermost line of the user's, None where the message has none."""
    reason: str
    skips_frame: bool


def frame_name(name: str, file: str, first_line: int) -> FrameName:
    """Return the frame that a code object stands for."""
    resumed = _RESUMED.match(name)
    if resumed is None:
        return FrameName(name, Line(file, first_line), is_resumed=False)
    return FrameName(resumed["name"], Line(file, int(resumed["line"])), is_resumed=True)


def lines_of_stack(stack: Sequence[str] | None) -> list[Line]:
    """Return the lines of a `stack_trace` of dynamo's metrics, outermost first."""
    found = (_STACK_ENTRY.match(entry) for entry in stack or ())
    return [Line(match[3], int(match[1])) for match in found if match is not None]


def user_line(lines: Iterable[Line]) -> Line | None:
    """Return the innermost line of the user's, else of an installed package; `lines` begin with the outermost."""
    package = None
    for line in reversed(list(lines)):
        origin = origin_of(line.file)
        if origin is Origin.USER:
            return line
        if origin is Origin.PACKAGE and package is None:
            package = line
    return package


def parse_break(message: str) -> BreakText:
    """Take a message of the loggers `graph_breaks` apart; the forms of torch 2.4 to 2.13."""
    heads = list(_STACK_HEAD.finditer(message))
    stack = message[heads[-1].end() :] if heads else ""
    lines = [Line(match["file"], int(match["line"])) for match in _TRACEBACK_ENTRY.finditer(stack)]
    where = _LOCATION.search(message)
    location = Line(where["file"], int(where["line"])) if where else lines[-1] if lines else None
    begin = _REASON.search(message)
    reason = message[begin.end() if begin else 0 : heads[-1].start() if heads else len(message)]
    return BreakText(
        location,
        user_line(lines or ([location] if location else [])),
        reason[:_MAX_TEXT].strip(),
        skips_frame="Skipping the function and falling back" in message or "skip tracing the frame" in message,
    )


def place_of(name: FrameName, callers: Sequence[Line], called_from: Line | None = None) -> dict[str, Any]:
    """Return frame, site and caller of a compiled frame.

    `callers` are the lines of the stack above it, outermost first; `called_from` is the user's line where it is known
    better.
    """
    called_from = called_from or user_line(callers)
    origin = origin_of(name.line.file)
    site = name.line if origin is Origin.USER or called_from is None else called_from
    label = name.label(name.line)
    if origin in {Origin.LIBRARY, Origin.OURS} and called_from is not None:
        inner = itertools.takewhile(lambda line: origin_of(line.file) is not Origin.USER, reversed(callers))
        is_module = any(line.file.endswith(_MODULE_CALL) for line in inner)
        shown = name._replace(name="module" if is_module else "callable") if name.name == _ANY_CALLABLE else name
        label = shown.label(called_from)
    return {"frame": label, "site": site.site, "called_from": called_from.site if called_from else None}
