"""Lane: the thread that takes one signal to the collector, and waits there in the loop's and the worker's stead."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from .answers import Answer, Outcome, Transport
from .messages import DecodeError, ExportLogsServiceResponse

__all__ = ["Lane", "Source"]

MAX_BACKOFF_SECONDS = 10.0
MAX_WAIT_SECONDS = 300.0
"""What a collector may ask for."""
CALM_SECONDS = 60.0
"""A failure this long after the one before, or three intervals, is told of again."""
_NOUNS = {"metrics": "data points", "logs": "log records", "traces": "spans"}
_logger = logging.getLogger("loopscope")


class Source(Protocol):
    """What there is to send; `take` and `settle` in turn, on the lane's thread."""

    @property
    def num_dropped(self) -> int:
        """What will not be sent any more, counted from the start."""

    @property
    def is_full(self) -> bool:
        """Whether so much waits that it should go now."""

    def take(self, *, is_last: bool) -> bytes | None:
        """Return the next request of this turn, None where there is none."""

    def settle(self, outcome: Outcome, num_rejected: int) -> None:
        """Say what became of the request that was taken."""

    def abandon(self) -> None:
        """Count what is left as dropped."""


class Lane:
    """Sends what its source has every `interval_seconds`, on a daemon thread of its own.

    A collector that fails is left alone for 1 s, 2 s and so on up to 10 s, or as long as it says, and told of once an
    incident. An exception of ours ends the thread; `check` raises it where it is counted, and starts another.
    """

    def __init__(
        self,
        signal: str,
        transport: Transport,
        source: Source,
        *,
        name: str,
        timeout_seconds: float,
        interval_seconds: float,
        jitter: Callable[[], float],
    ) -> None:
        self._signal, self._transport, self._source, self._name = signal, transport, source, name
        self._timeout_seconds, self._interval_seconds, self._jitter = timeout_seconds, interval_seconds, jitter
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._fault = _Fault()
        self._deadline: float | None = None
        self._due_seconds = 0.0
        self._num_failures = 0
        self._calm_seconds = max(CALM_SECONDS, 3 * interval_seconds)
        self._failed_seconds = -math.inf
        self._num_dropped_before = 0
        self._cpu_before_seconds = self._cpu_seconds = 0.0

    @property
    def num_dropped(self) -> int:
        """What was not delivered and will not be, counted from the start."""
        return self._source.num_dropped

    @property
    def cpu_seconds(self) -> float:
        """CPU time that the lane has taken."""
        return self._cpu_before_seconds + self._cpu_seconds

    def start(self) -> None:
        """Start the thread, where it does not run yet; the first request goes after a second at the most."""
        if self._thread is None and self._deadline is None:
            self._due_seconds = time.monotonic() + min(1.0, self._interval_seconds)
            self._thread = threading.Thread(target=self._run, name=f"loopscope-otlp-{self._signal}", daemon=True)
            self._thread.start()

    def nudge(self) -> None:
        """Have the lane look whether enough waits to go now."""
        if self._source.is_full:
            self._wake.set()

    def check(self) -> None:
        """Raise what the thread died of, and start another one."""
        fault = self._fault.take()
        if fault is not None:
            self._thread = None
            self._cpu_before_seconds, self._cpu_seconds = self.cpu_seconds, 0.0
            self.start()
            raise fault

    def end(self, deadline: float) -> None:
        """Have the lane send what is left and end, at `deadline` (monotonic); does not wait."""
        self._deadline = deadline
        self._wake.set()

    def join(self) -> None:
        """Wait for the lane until its deadline, then cut it off and tell what was not delivered."""
        assert self._deadline is not None, "end comes first"
        if self._thread is not None:
            self._thread.join(max(0.0, self._deadline - time.monotonic()))
            self._transport.abort()
        self._source.abandon()
        num_dropped = self.num_dropped - self._num_dropped_before
        if num_dropped:
            _logger.warning("loopscope: %d %s were not delivered to %s", num_dropped, _NOUNS[self._signal], self._name)

    def _run(self) -> None:
        with self._fault:
            while self._deadline is None:
                self._wake.wait(max(0.0, self._due_seconds - time.monotonic()))
                self._wake.clear()
                if self._is_due():
                    self._turn(is_last=False)
                    self._cpu_seconds = time.thread_time()
            self._turn(is_last=True)
            self._cpu_seconds = time.thread_time()

    def _is_due(self) -> bool:
        if self._deadline is not None:
            return False
        return time.monotonic() >= self._due_seconds or (self._num_failures == 0 and self._source.is_full)

    def _turn(self, *, is_last: bool) -> None:
        while (body := self._source.take(is_last=is_last)) is not None:
            answer = self._transport.send(body, self._seconds_left())
            num_rejected, message = _rejected(answer)
            self._source.settle(answer.outcome, num_rejected)
            if answer.outcome is Outcome.RETRY:
                self._back_off(answer)
                return
            self._note_end(f"{num_rejected} rejected: {message}" if num_rejected else answer.reason)
        self._due_seconds = time.monotonic() + self._interval_seconds

    def _seconds_left(self) -> float:
        deadline = self._deadline
        left = self._timeout_seconds if deadline is None else deadline - time.monotonic()
        return max(0.001, min(left, self._timeout_seconds))

    def _back_off(self, answer: Answer) -> None:
        self._tell(answer.reason)
        backoff_seconds = min(2.0**self._num_failures, MAX_BACKOFF_SECONDS) * (0.75 + 0.5 * self._jitter())
        self._num_failures += 1
        asked_seconds = min(answer.wait_seconds or 0.0, MAX_WAIT_SECONDS)
        self._due_seconds = time.monotonic() + max(backoff_seconds, asked_seconds)

    def _note_end(self, reason: str) -> None:
        """An incident ends with a request that was taken; one that was refused is news of its own."""
        if reason:
            self._tell(reason)
        elif self._num_failures and self._deadline is None:
            num_dropped = self.num_dropped - self._num_dropped_before
            self._num_dropped_before = self.num_dropped
            level = logging.WARNING if num_dropped else logging.INFO
            lost = f"; {num_dropped} {_NOUNS[self._signal]} were dropped" if num_dropped else ""
            _logger.log(level, "loopscope: %s takes %s again%s", self._name, self._signal, lost)
        self._num_failures = 0

    def _tell(self, reason: str) -> None:
        now_seconds = time.monotonic()
        if now_seconds - self._failed_seconds >= self._calm_seconds:
            _logger.warning(
                "loopscope: %s does not take %s: %s; training goes on", self._name, self._signal, reason[:200]
            )
        self._failed_seconds = now_seconds


class _Fault:
    """Keeps the exception that a block ended with, for another thread to raise."""

    def __init__(self) -> None:
        self._fault: Exception | None = None

    def take(self) -> Exception | None:
        fault, self._fault = self._fault, None
        return fault

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(fault, Exception):
            self._fault = fault
        return isinstance(fault, Exception)


def _rejected(answer: Answer) -> tuple[int, str]:
    """Return how much of what was delivered the collector has not taken, and why.

    The answers of all signals have these fields under the same numbers.
    """
    if answer.outcome is not Outcome.DELIVERED:
        return 0, ""
    try:
        partial = ExportLogsServiceResponse.FromString(answer.body).partial_success
    except DecodeError:  # a proxy's page, say; the status was that of success
        return 0, ""
    return max(0, partial.rejected_log_records), partial.error_message
