"""Listener: what dynamo says while it compiles, and which line of the user's made it; one handler on its loggers."""

from __future__ import annotations

import logging
import re
import sys
from collections import deque
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from ...guard import Site
from ...hooks import HookSet
from ...notes import CompileNote
from .places import Line, frame_name, place_of, user_line
from .taps import Tap

__all__ = ["Begin", "Heard", "Listener", "is_limit"]

_MAX_RECORDS = 1_000
"""Log records that wait for the end of their compilation, and compilations whose record is not read yet."""
_GRAPHS = "torch._inductor.cudagraph_"
_LIMIT_HEAD = "hit config."
_LIMIT_FRAME = re.compile(r"function: '(?P<name>.*)' \((?P<file>.*):(?P<line>\d+)\)$", re.MULTILINE)
_LAST_REASON = re.compile(r"last reason: (?P<reason>.*?)(?:\nTo log all|\Z)", re.DOTALL)
_FAILED = re.compile(r"^WON'T CONVERT (?P<name>.+) (?P<file>.+) line (?P<line>\d+)")
_RECORDING = re.compile(r"\bRecording function[ =]")


class Heard(NamedTuple):
    """A message about a graph break, with what was known only while it was made."""

    compile_id: str | None
    message: str
    called_from: Line | None
    error: str


class Begin(NamedTuple):
    """What was known only while a compilation began."""

    called_from: Line | None
    """The user's line that ran into it."""
    is_training: bool | None
    """`training` of the modules that the frame has at hand, None where there are none or they differ."""


class Listener:
    """Fills `breaks` and `notes` on the thread that compiles; whoever collects empties them."""

    def __init__(self, hooks: HookSet, site: Site) -> None:
        self.breaks: deque[Heard] = deque(maxlen=_MAX_RECORDS)
        self.notes: deque[CompileNote] = deque(maxlen=_MAX_RECORDS)
        self._begins: dict[str, Begin] = {}
        self._taps = (
            Tap("torch._dynamo.symbolic_convert.__graph_breaks", self._hear_break, site, logging.DEBUG),
            Tap("torch._dynamo.convert_frame.__graph_breaks", self._hear_break, site, logging.DEBUG),
            Tap("torch._dynamo.convert_frame", self._hear_fallback, site, logging.WARNING),
            Tap(f"{_GRAPHS}utils.__cudagraphs", self._hear_skip, site, logging.WARNING),
            Tap(f"{_GRAPHS}trees", self._hear_recording, site, logging.DEBUG),
        )
        self._shield: Callable[[], Callable[..., Any]] = lambda: hooks.shield(self._begin, site)
        self._callback: Callable[..., Any] | None = None
        self._handler: Any = None
        """Dynamo's callbacks, None as long as dynamo is not there."""

    @property
    def is_in_place(self) -> bool:
        """Whether the loggers and dynamo's callbacks are as `start` left them; costs half a microsecond."""
        handler = self._handler or _callbacks()
        return self._taps[0].is_open and (handler is None or self._callback in handler.start_callbacks)

    @property
    def can_hear_breaks(self) -> bool:
        """Whether the user lets records of this level be made (`logging.disable`)."""
        return self._taps[0].can_hear

    def start(self) -> None:
        """Listen; a second call puts right what `torch._logging.set_logs` and `torch._dynamo.reset` took out."""
        for tap in self._taps:
            tap.open()
        handler = self._handler = _callbacks()
        if handler is not None and self._callback not in handler.start_callbacks:
            self._callback = self._callback or self._shield()  # not before dynamo is there: it would import it
            handler.register_start_callback(self._callback)

    def stop(self) -> None:
        """Leave all loggers and callbacks as they were; a second call does nothing."""
        handler = _callbacks()
        if handler is not None and self._callback in handler.start_callbacks:
            handler.remove_start_callback(self._callback)
        for tap in reversed(self._taps):
            tap.close_tap()

    def begin_of(self, compile_id: str | None) -> Begin:
        """Return what was known when the compilation began, once."""
        return self._begins.pop(compile_id or "", _UNKNOWN)

    # called on the thread that compiles

    def _begin(self, *_: Any) -> None:
        compile_id = _compile_id()
        if compile_id is None:
            return
        if len(self._begins) >= _MAX_RECORDS:
            self._begins.clear()
        self._begins[compile_id] = Begin(_caller(), _is_training())

    def _hear_break(self, record: logging.LogRecord) -> None:
        self.breaks.append(_hear(record))

    def _hear_fallback(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            return
        message = record.getMessage()
        match = is_limit(message) and _LIMIT_FRAME.search(message)
        kind = "limit" if match else "failure"
        if not match and not _tells_failures():
            match = _FAILED.match(message)
        if not match:
            return
        heard, reason = _hear(record), _LAST_REASON.search(message)
        name = frame_name(match["name"], match["file"], int(match["line"]))
        self.notes.append(
            CompileNote(
                kind="limit" if kind == "limit" else "failure",
                compile_id=heard.compile_id,
                text=message.split("\n", 1)[0] if kind == "limit" else heard.error,
                reasons=(reason["reason"],) if reason else (),
                **place_of(name, _stack()),
            )
        )

    def _hear_skip(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and "skipping cudagraphs" in record.getMessage().lower():
            heard = _hear(record)
            site = heard.called_from.site if heard.called_from else None
            self.notes.append(
                CompileNote(
                    kind="cudagraph_skip",
                    compile_id=heard.compile_id,
                    text=heard.message,
                    site=site,
                    is_without_cuda=not torch.cuda.is_available(),
                )
            )

    def _hear_recording(self, record: logging.LogRecord) -> None:
        if _RECORDING.search(str(record.msg)):
            self.notes.append(CompileNote(kind="cudagraph_recording", compile_id=_compile_id()))


_UNKNOWN = Begin(None, None)


def is_limit(message: str) -> bool:
    """Whether a text of dynamo's is about the recompile limit."""
    return _LIMIT_HEAD in message or "recompile limit exceeded" in message


def _hear(record: logging.LogRecord) -> Heard:
    error = record.exc_info[1] if record.exc_info else None
    told = f"{type(error).__name__}: {error}" if error is not None else ""
    return Heard(_compile_id(), record.getMessage(), _caller(), told)


def _caller() -> Line | None:
    """Return the innermost line of the user's on this thread's stack: above dynamo that is who called the frame."""
    return user_line(_stack())


def _stack() -> list[Line]:
    lines: list[Line] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        lines.append(Line(frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return lines[::-1]


def _is_training() -> bool | None:
    """Look at the arguments of the frame that is being compiled, which dynamo's own function has at hand."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "_compile":
        frame = frame.f_back
    found = frame.f_locals.get("locals") if frame is not None else None
    values = (getattr(value, "__self__", value) for value in dict(found or {}).values())
    modes = {value.training for value in values if isinstance(value, nn.Module)}
    return modes.pop() if len(modes) == 1 else None


def _compile_id() -> str | None:
    context = getattr(sys.modules.get("torch._guards"), "CompileContext", None)
    compile_id = context.current_compile_id() if context is not None else None
    return str(compile_id) if compile_id is not None else None


def _callbacks() -> Any:
    module: ModuleType | None = sys.modules.get("torch._dynamo.callback")
    handler = getattr(module, "callback_handler", None)
    return handler if hasattr(handler, "start_callbacks") else None


def _tells_failures() -> bool:
    """Whether dynamo's metrics say that errors are suppressed, so that the log need not be read for it."""
    metrics = getattr(sys.modules.get("torch._dynamo.utils"), "CompilationMetrics", None)
    return hasattr(metrics, "config_suppress_errors")
