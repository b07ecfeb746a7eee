"""Ledger: the syncs of the process by kind and line; each agent reads from it what is new to it."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NamedTuple

from ...allowances import is_allowed
from ...guard import Guard, Site
from ...hooks import out_of_dynamo
from ...records import SyncCount
from ...sites import is_ours, site_of, user_frame
from .host_side import is_host_side

__all__ = ["LEDGER", "Ledger", "Reader"]

_MAX_KEYS = 4_096
"""Lines that are told apart; notebook cells and generated code have a file each."""
_BEYOND = "<further lines>"


class _Key(NamedTuple):
    kind: str
    device_type: str
    filename: str
    line: int
    is_allowed: bool
    is_other_thread: bool


class Ledger:
    """Counts from the first agent on, never reset: a reader remembers how far it has read, so that nothing is lost.

    `device_types` says which devices anyone listens for; `busy` are the threads inside a call that is being counted,
    whose inner calls are part of it.
    """

    def __init__(self) -> None:
        self.device_types: frozenset[str] = frozenset()
        self.is_simulated = False
        self.busy: set[int] = set()
        self.host: dict[int, weakref.ref[object]] = {}
        """Tensors by identity that the simulation takes for being on the host."""
        self.num_noted = 0
        self._counts: dict[_Key, list[int]] = {}
        self._listeners: list[tuple[frozenset[str], Site]] = []
        self._site = Guard().at("probe.syncs")
        self.note: Callable[[str, str, int, FrameType | None], None] = out_of_dynamo(self._note)

    def listen(self, device_types: frozenset[str], site: Site) -> Callable[[], None]:
        """Count syncs of these device types until the function returned is called; faults go to `site`."""
        entry = (device_types, site)
        self._listeners.append(entry)
        self._renew()

        def leave() -> None:
            self._listeners.remove(entry)
            self._renew()

        return leave

    def _renew(self) -> None:
        self.device_types = frozenset().union(*(types for types, _ in self._listeners))
        self.is_simulated = "cpu" in self.device_types
        if self._listeners:
            self._site = self._listeners[-1][1]

    def _note(self, kind: str, device_type: str, blocked_ns: int, frame: FrameType | None) -> None:
        """Count one sync that `frame`, or who called it, has caused; `frame` None stands for the main thread's line."""
        if not self._site.is_enabled:
            return
        with self._site:
            own = user_frame(frame)
            if device_type == "cpu" and is_host_side(frame):
                return
            if own is not None:
                self._count(kind, device_type, blocked_ns, own, threading.get_ident(), is_other_thread=False)
                return
            main = threading.main_thread().ident
            if main is not None and main != threading.get_ident() and not is_ours(frame):
                other = user_frame(sys._current_frames().get(main))
                if other is not None:
                    self._count(kind, device_type, blocked_ns, other, main, is_other_thread=True)

    def _count(
        self, kind: str, device_type: str, blocked_ns: int, frame: FrameType, thread: int, *, is_other_thread: bool
    ) -> None:
        key = _Key(
            kind, device_type, frame.f_code.co_filename, frame.f_lineno or 0, is_allowed(thread), is_other_thread
        )
        entry = self._counts.get(key)
        if entry is None:
            if len(self._counts) >= _MAX_KEYS:
                key = key._replace(filename=_BEYOND, line=0)
            entry = self._counts.setdefault(key, [0, 0])
        entry[0] += 1
        entry[1] += blocked_ns
        self.num_noted += 1

    def items(self) -> list[tuple[_Key, list[int]]]:
        """Return the counts so far, [number, nanoseconds] by key."""
        return list(self._counts.copy().items())  # a copy is made in one go, a list of pairs is not


class Reader:
    """One agent's reading of the ledger; `allowed` are the places of `allow_syncs`."""

    def __init__(self, ledger: Ledger, device_types: frozenset[str], allowed: Sequence[str]) -> None:
        self._ledger, self._device_types, self._allowed = ledger, device_types, tuple(allowed)
        self._lock = threading.Lock()
        self._num_read = ledger.num_noted
        self._read = {key: tuple(entry) for key, entry in ledger.items()}

    def read(self) -> Sequence[SyncCount]:
        """Return what was counted since the last time; nothing where another thread is reading."""
        if self._ledger.num_noted == self._num_read or not self._lock.acquire(blocking=False):
            return ()
        try:
            self._num_read = self._ledger.num_noted
            return [self._take(key, entry) for key, entry in self._ledger.items() if self._is_new(key, entry)]
        finally:
            self._lock.release()

    def _is_new(self, key: _Key, entry: list[int]) -> bool:
        return key.device_type in self._device_types and entry[0] != self._read.get(key, (0, 0))[0]

    def _take(self, key: _Key, entry: list[int]) -> SyncCount:
        count, blocked_ns = entry
        count_before, ns_before = self._read.get(key, (0, 0))
        self._read[key] = (count, blocked_ns)
        site = site_of(key.filename, key.line)
        return SyncCount(
            kind=key.kind,
            site=site,
            count=count - count_before,
            seconds=(blocked_ns - ns_before) / 1e9,
            is_allowed=key.is_allowed or any(_covers(place, key) for place in self._allowed),
            is_other_thread=key.is_other_thread,
        )


def _covers(place: str, key: _Key) -> bool:
    """Whether `place`, a line or a file with as much of its path as is wanted, covers the line of the key."""
    name, _, line = place.rpartition(":")
    if not line.isdecimal():
        name, line = place, str(key.line)
    path = key.filename if key.filename.startswith("<") else os.path.abspath(key.filename)  # noqa: PTH100 - as text
    name = os.path.normpath(name)
    return line == str(key.line) and (path == name or path.endswith(os.sep + name))


LEDGER = Ledger()
"""The one of this process: torch's functions are there once."""
