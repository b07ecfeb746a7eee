"""Vitals: what the agent says of itself and of its process."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psutil

from .guard import Guard
from .records import RunInfo, SelfReport

__all__ = ["Vitals"]


class Vitals:
    """Reads the process's memory and CPU time, on the worker thread: some 20 us a reading."""

    def __init__(self, info: RunInfo, guard: Guard) -> None:
        self._info, self._guard = info, guard
        self._process = psutil.Process()

    def memory_bytes(self) -> int:
        """Return the resident memory of the process; without mapped files, where the system tells them apart.

        A data set that is mapped fills memory as it is read, which is neither a leak nor the process's own.
        """
        memory = self._process.memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))

    def report(
        self, spent_seconds: Mapping[str, float], loop_seconds: float, *, num_dropped: int, interval: int
    ) -> SelfReport:
        """Return the report of this moment.

        `spent_seconds` are ours by part, `hooks` among them; `loop_seconds` is the time from the first step to the
        last one, with the hooks'.
        """
        bare_seconds = loop_seconds - spent_seconds["hooks"]
        with self._process.oneshot():
            memory, cpu = self._process.memory_info().rss, self._process.cpu_times()
        return SelfReport(
            run=self._info.run,
            agent=self._info.agent,
            rank=self._info.rank,
            time_unix_seconds=time.time(),
            overhead_ratio=sum(spent_seconds.values()) / bare_seconds if bare_seconds > 0 else None,
            overhead_seconds=spent_seconds,
            dropped_reports=num_dropped,
            internal_errors=self._guard.faults(),
            disabled_parts=self._guard.disabled(),
            sample_interval_steps=interval,
            process_memory_bytes=memory,
            process_cpu_seconds=cpu.user + cpu.system,
        )
