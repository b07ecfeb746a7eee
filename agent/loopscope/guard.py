"""The boundary between our code and the user's process: the only `except Exception` of the project."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, TypeVar

__all__ = ["Guard", "Meter", "Site"]

_T = TypeVar("_T")

_logger = logging.getLogger("loopscope")
_guards: weakref.WeakSet[Guard] = weakref.WeakSet()


class Meter(Protocol):
    """What adds up the cost of callbacks."""

    spent_ns: int


class Site:
    """One part of loopscope behind the boundary: `with site:` swallows, counts and logs (once) what fails inside.

    After `limit` faults `is_enabled` turns False for good, and callers leave the part out. With `strict` every
    fault is re-raised, so that the boundary hides no bug of ours. KeyboardInterrupt and SystemExit always pass.
    """

    __slots__ = ("_guard", "is_enabled", "name", "num_faults")

    def __init__(self, guard: Guard, name: str) -> None:
        self._guard = guard
        self.name = name
        self.num_faults = 0
        self.is_enabled = True

    def __enter__(self) -> None:
        return None

    def wrap(self, callback: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
        """Return `callback` as if called in `with site:` while the site is enabled, its wall time added to `meter`.

        It returns None where it is not called, or fails. Every hook goes through this: it is written to be cheap.
        """
        guard, now_ns = self._guard, time.perf_counter_ns

        def wrapped(*args: Any) -> Any:
            if not self.is_enabled:
                return None
            start_ns = now_ns()
            try:
                return callback(*args)
            except Exception as fault:
                guard.note(self, fault)
                if guard.strict:
                    raise
                return None
            finally:
                meter.spent_ns += now_ns() - start_ns

        return wrapped

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if fault is None or not isinstance(fault, Exception):
            return False
        self._guard.note(self, fault)
        return not self._guard.strict


class Guard:
    """The sites of one agent, with their fault counts.

    In a forked child all sites are off from the first moment: what was installed before the fork is the parent's.
    """

    def __init__(self, *, limit: int = 10, strict: bool = False) -> None:
        self.strict = strict
        self._limit = limit
        self._sites: dict[str, Site] = {}
        self._lock = threading.Lock()
        _watch_forks()
        _guards.add(self)

    def at(self, name: str) -> Site:
        """Return the site of this name, the same one each time; the names are a closed set of parts."""
        site = self._sites.get(name)
        if site is None:
            with self._lock:
                site = self._sites.setdefault(name, Site(self, name))
        return site

    def gather(self, calls: Iterable[tuple[Callable[..., Iterable[Any]], Site]], *arguments: Any) -> list[Any]:
        """Return what all calls of `arguments` return, in a row: as `with site:` around each, but cheaper."""
        results: list[Any] = []
        for call, site in calls:
            if site.is_enabled:
                try:
                    results += call(*arguments)
                except Exception as fault:
                    self.note(site, fault)
                    if self.strict:
                        raise
        return results

    def exhaust(self, site: Site, work: Callable[[Iterator[Any]], object], items: Iterator[Any]) -> None:
        """Have `work` take all items, and go on behind one at which it fails: as `with site:` around each, but cheaper.

        Where the site is off the rest is left.
        """
        is_done = False
        while site.is_enabled and not is_done:
            try:
                work(items)
                is_done = True
            except Exception as fault:
                self.note(site, fault)
                if self.strict:
                    raise

    def attempt(self, call: Callable[..., _T], *arguments: Any) -> tuple[_T | None, Exception | None]:
        """Return what a call returns, or why it fails: of what has another, guarded way. No fault is counted."""
        try:
            return call(*arguments), None
        except Exception as fault:
            return None, fault

    def drain(self, site: Site, call: Callable[[Any], object], queue: deque[Any]) -> None:
        """Call with each entry of a queue, taken out before; where the site is off they are thrown away.

        As `with site:` around each, but cheaper.
        """
        while queue:
            if not site.is_enabled:
                queue.clear()
                return
            try:
                while queue:
                    call(queue.popleft())
            except Exception as fault:
                self.note(site, fault)
                if self.strict:
                    raise

    def leave(self) -> None:
        """Switch all sites off for good."""
        for site in self._sites.values():
            site.is_enabled = False

    def note(self, site: Site, fault: BaseException) -> None:
        """Count a fault of `site`, log the first with its traceback, and switch the site off at the limit."""
        site.num_faults += 1
        if site.num_faults >= self._limit:
            site.is_enabled = False
        with contextlib.suppress(Exception):  # the user's logging handlers may fail as well
            self._log(site, fault)

    def _log(self, site: Site, fault: BaseException) -> None:
        if site.num_faults == 1:
            _logger.warning("loopscope: fault in %s, training goes on: %r", site.name, fault, exc_info=fault)
        if site.num_faults == self._limit:
            _logger.warning(
                "loopscope: %s failed %d times and is switched off; training goes on", site.name, self._limit
            )

    def faults(self) -> dict[str, int]:
        """Faults by part, parts without any included."""
        return {name: site.num_faults for name, site in self._sites.copy().items()}

    def disabled(self) -> tuple[str, ...]:
        """Parts that have switched themselves off."""
        return tuple(name for name, site in self._sites.copy().items() if not site.is_enabled)


@functools.cache
def _watch_forks() -> None:
    """Once a process: os.register_at_fork cannot be undone."""
    os.register_at_fork(after_in_child=_leave_in_child)


def _leave_in_child() -> None:
    for guard in list(_guards):
        guard.leave()
