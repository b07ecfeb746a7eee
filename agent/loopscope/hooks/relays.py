"""Relay: one agent's observers of one patched function, each behind its own guard site, with one clock for all."""

from __future__ import annotations

import functools
import time
from typing import Any

from ..guard import Meter, Site
from .patches import Finish, Observer

__all__ = ["Relay"]


class Relay:
    """An Observer that passes each call on to several; their wall time is added to `meter`."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._observers: tuple[tuple[Observer, Site], ...] = ()

    def add(self, observer: Observer, site: Site) -> None:
        """Pass calls on to `observer` as well, after those that are there."""
        self._observers += ((observer, site),)

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        """The function is about to be called."""
        start_ns = time.perf_counter_ns()
        finishes: list[tuple[Finish, Site]] = []
        try:
            for observer, site in self._observers:
                if site.is_enabled:
                    with site:
                        finish = observer(args, kwargs)
                        if finish is not None:
                            finishes.append((finish, site))
        finally:
            self._meter.spent_ns += time.perf_counter_ns() - start_ns
        return functools.partial(self._end, finishes) if finishes else None

    def _end(self, finishes: list[tuple[Finish, Site]], result: Any, is_done: bool) -> None:
        """The function has returned, or its exception passes: the last observer hears of it first."""
        start_ns = time.perf_counter_ns()
        try:
            for finish, site in reversed(finishes):
                if site.is_enabled:
                    with site:
                        finish(result, is_done)
        finally:
            self._meter.spent_ns += time.perf_counter_ns() - start_ns
