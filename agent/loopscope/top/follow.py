"""Follow a run from one answer to the next, and on to the run that takes its place."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .client import Answer, Failure
from .state import State, merge

__all__ = ["Follower", "Outcome", "Poller"]


class Follower:
    """Asks for what is new, and for everything where the run is another one."""

    def __init__(
        self,
        ask: Callable[[Mapping[str, str]], Answer | Failure],
        *,
        agent: str | None = None,
        optimizer: str | None = None,
    ) -> None:
        self._ask = ask
        wanted = {"agent": agent, "optimizer": optimizer}
        self._wanted = {name: value for name, value in wanted.items() if value is not None}
        self._known: State | None = None

    def poll(self) -> State | Failure:
        """Return what is known now, or why that could not be asked; the next call goes on from the latest answer."""
        known = self._known
        answer = self._ask(self._wanted if known is None else known.query)
        state = None if isinstance(answer, Failure) else merge(known, answer)
        is_another = state is None and (not isinstance(answer, Failure) or answer.kind == "missing")
        if known is not None and is_another:
            answer = self._ask(self._wanted)
            state = None if isinstance(answer, Failure) else merge(None, answer)
        if isinstance(answer, Failure):
            return answer
        assert state is not None, "what is merged with nothing is all there is"
        self._known = state
        return state


class Outcome(NamedTuple):
    """Of one poll."""

    found: State | Failure | None
    fault: BaseException | None
    """What a fault of ours raised."""
    at_seconds: float
    """By the clock that `Poller` was given."""


class Poller:
    """Polls on a thread of its own, which never holds up the display, nor the end of the process."""

    def __init__(
        self,
        follower: Follower,
        interval_seconds: float,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.asked_at_seconds: float | None = None
        """When the question under way was asked; None while none is."""
        self._follower, self._interval_seconds, self._wake, self._clock = follower, interval_seconds, wake, clock
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loopscope-top", daemon=True)

    def start(self) -> None:
        """Begin; the first poll comes after an interval."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._is_over.set()

    def outcomes(self) -> list[Outcome]:
        """Return what came since the last time."""
        return [self._outcomes.get() for _ in range(self._outcomes.qsize())]

    def _run(self) -> None:
        while not self._is_over.wait(self._interval_seconds):
            found = None
            self.asked_at_seconds = self._clock()
            try:
                found = self._follower.poll()
            finally:  # whoever draws has to know of a fault: it raises it once the terminal is as it was
                self._outcomes.put(Outcome(found, sys.exception(), self._clock()))
                self.asked_at_seconds = None
                self._wake()
