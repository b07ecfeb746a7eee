"""The live view: it draws what the poller brings, follows the terminal's size and keys, and leaves it as it was."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from .client import Failure
from .follow import Follower, Poller
from .glyphs import ASCII, UNICODE
from .health import Link
from .keyboard import Keyboard
from .room import Scroll
from .screen import Frame, draw
from .state import State
from .tables import Sheet

__all__ = ["picture", "watch"]

LATE_SECONDS = 5.0
"""A question that is open for longer is said to have no answer."""
_TICK_SECONDS = 1.0
"""How often what is said of ages is renewed."""
_PAGE = 10
_MOVES = {"up": -1, "down": 1, "page up": -_PAGE, "page down": _PAGE}


def picture(state: State, *, width: int, is_unicode: bool, has_colours: bool) -> str:
    """Return one picture as text, as high as it has to be."""
    console = Console(width=width, force_terminal=has_colours)
    sheet = Sheet(console=console, width=width, glyphs=UNICODE if is_unicode else ASCII)
    with console.capture() as capture:
        for line in draw(state, Link(), Frame(sheet=sheet, height=None)):
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
    return capture.get()


def watch(
    follower: Follower, state: State, *, console: Console, url: str, interval_seconds: float, is_unicode: bool
) -> None:
    """Show the run from this state on, until q or Ctrl-C is pressed; main thread only, for its signals."""
    footer = f"q quits · j k scroll the layers · {url} each {interval_seconds:g} s"
    _Watch(follower, state, console, footer, interval_seconds, is_unicode=is_unicode).run()


class _Watch:
    def __init__(
        self,
        follower: Follower,
        state: State,
        console: Console,
        footer: str,
        interval_seconds: float,
        *,
        is_unicode: bool,
    ) -> None:
        self._state, self._answered_at_seconds = state, time.monotonic()
        self._failure: Failure | None = None
        self._console, self._footer = console, footer
        self._glyphs = UNICODE if is_unicode else ASCII
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._poller = Poller(follower, interval_seconds, self._wake)
        self._live = Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._keyboard = Keyboard(0) if os.isatty(0) else None
        self._scroll = Scroll()
        self._is_over = self._is_suspending = False
        self._drawn: object = None

    def run(self) -> None:
        """Draw until it is over; the terminal is put back whatever happens."""
        handlers: dict[signal.Signals, Callable[[int, FrameType | None], object]] = {
            signal.SIGWINCH: lambda *_: self._wake(),
            signal.SIGINT: self._end,
            signal.SIGTSTP: self._suspend,
            signal.SIGTERM: _exit,
            signal.SIGHUP: _exit,
        }
        with ExitStack() as stack:
            stack.callback(self._reader.close)
            stack.callback(self._writer.close)
            stack.callback(self._poller.stop)
            stack.enter_context(_handling(handlers))
            stack.callback(self._leave)
            self._enter()
            self._poller.start()
            self._loop(stack.enter_context(selectors.DefaultSelector()))

    def _loop(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._reader, selectors.EVENT_READ)
        if self._keyboard is not None:
            selector.register(self._keyboard.descriptor, selectors.EVENT_READ)
        while not self._is_over:
            self._take_in()
            self._draw()
            ready = {key.fd for key, _ in selector.select(_TICK_SECONDS)}
            if self._reader.fileno() in ready:
                self._reader.recv(4_096)
            if self._keyboard is not None and self._keyboard.descriptor in ready:
                self._press(self._keyboard.read())
            if self._is_suspending:
                self._stop_here()

    def _take_in(self) -> None:
        for found, fault, at_seconds in self._poller.outcomes():
            if fault is not None:
                raise fault
            if isinstance(found, State):
                if found.identity != self._state.identity:
                    self._scroll = Scroll()
                self._state, self._failure, self._answered_at_seconds = found, None, at_seconds
            else:
                self._failure = found

    def _draw(self) -> None:
        now, asked_at = time.monotonic(), self._poller.asked_at_seconds
        is_late = asked_at is not None and now - asked_at > LATE_SECONDS
        silent_seconds = now - self._answered_at_seconds
        link = Link(failure=None if is_late else self._failure, silent_seconds=silent_seconds, is_late=is_late)
        self._console.size = size = os.get_terminal_size(self._console.file.fileno())
        sheet = Sheet(console=self._console, width=size.columns or 80, glyphs=self._glyphs)
        frame = Frame(sheet=sheet, height=size.lines or 24, scroll=self._scroll, footer=self._footer)
        lines: Sequence[Text] = draw(self._state, link, frame)
        if (size, lines) != self._drawn:  # nothing goes over the wire that is on the screen
            self._drawn = (size, lines)
            self._live.update(Group(*lines), refresh=True)

    def _press(self, keys: Sequence[str] | None) -> None:
        if keys is None:
            self._is_over = True
        for key in keys or ():
            self._is_over |= key == "quit"
            self._scroll.first += _MOVES.get(key, 0)

    def _wake(self) -> None:
        with suppress(OSError):  # full, which wakes as well; or closed, where nobody sleeps any more
            self._writer.send(b"\0")

    def _enter(self) -> None:
        if self._keyboard is not None:
            self._keyboard.__enter__()
        self._live.start()
        self._drawn = None

    def _leave(self) -> None:
        self._live.stop()
        if self._keyboard is not None:
            self._keyboard.__exit__(None, None, None)

    def _end(self, *_: object) -> None:
        self._is_over = True
        self._wake()

    def _suspend(self, *_: object) -> None:
        self._is_suspending = True
        self._wake()

    def _stop_here(self) -> None:
        """Do what Ctrl-Z does to any program, in a terminal that is as it was."""
        self._is_suspending = False
        self._leave()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)
        self._enter()


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _handling(
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], object]],
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
