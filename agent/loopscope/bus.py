"""Bus: the hand-over from the training thread to one worker thread, bounded, never waiting on the loop's side."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from .breath import Breath
from .frames import Frame, StepFrame
from .guard import Guard

__all__ = ["Bus"]

_LOOK_SECONDS, _IDLE_SECONDS = 0.2, 1.0
_WANTED_FRAMES = 8
"""The worker looks when so many are there, or one that holds slots of which there are few, but so long after the last
look at the soonest and the latest: each awakening begins with cold caches, and a report by itself cost half as much
again as one of two.
"""
_HOLD_SECONDS = 0.5
"""The latest step waits this long for agent.log before the worker takes it anyway."""
_MAX_RESTARTS = 3


class Bus:
    """Frames in order, and the thread that takes them.

    The latest step is held until the loop goes on, so that `agent.log` right after `optimizer.step` still reaches it.
    The length is bounded by the slots that step frames hold; `put` never waits and never drops. `on_end` is the
    worker's last act.
    """

    def __init__(
        self,
        take: Callable[[Frame], None],
        tick: Callable[[], None],
        guard: Guard,
        *,
        wake_at: int,
        on_end: Callable[[], None],
    ) -> None:
        self._take, self._tick, self._on_end = take, tick, on_end
        self._site = guard.at("worker")
        self._guard = guard
        self._frames: deque[Frame] = deque()
        self._held: deque[Frame] = deque()
        self._wake_at = wake_at
        self._breath = Breath(wake_at, self._has_time)
        self._releasing = threading.Lock()
        """Held by the loop or by the worker, whichever releases; neither waits for it."""
        self._wake = threading.Event()
        self._answers = threading.Condition()
        self._first: Callable[[], None] | None = None
        self._has_begun = threading.Event()
        self._num_asked = self._num_answered = self._num_restarts = 0
        self._looked_seconds = time.monotonic()
        self._has_rare_slots = False
        self._deadline: float | None = None
        self._pid = os.getpid()
        self._thread = self._new_thread()
        self._has_ended = False
        self.cpu_seconds = 0.0

    def start(self, first: Callable[[], None] | None = None, timeout: float = 0.0) -> None:
        """Start the worker thread with `first` as its first act, and wait for that, `timeout` seconds at the most."""
        self._first = first
        self._thread.start()
        self._has_begun.wait(timeout)

    def put(self, frame: Frame) -> None:
        """Hand over a frame; a step, and the marks after it, are held until the next step or `release_held`."""
        if isinstance(frame, StepFrame):
            self.release_held()
        self._held.append(frame)
        if self._is_time_to_look() and not self._wake.is_set():
            self.wake()

    @property
    def held(self) -> StepFrame | None:
        """The latest step, while the worker has not got it yet."""
        try:
            first = self._held[0]
        except IndexError:
            return None
        return first if isinstance(first, StepFrame) else None

    def release_held(self) -> None:
        """Let the worker have the latest step: the loop has gone on."""
        if not self._held:
            return
        if self._releasing.acquire(blocking=False):  # else the other thread is at it
            try:
                while self._held:
                    frame = self._held.popleft()
                    self._frames.append(frame)
                    self._has_rare_slots |= isinstance(frame, StepFrame) and frame.has_rare_slots
            finally:
                self._releasing.release()

    def wake(self) -> None:
        """Have the worker look at once; a worker that died is replaced, a few times."""
        if self._has_ended and self._is_ours() and self._num_restarts < _MAX_RESTARTS and self._deadline is None:
            self._num_restarts += 1
            self._thread, self._has_ended = self._new_thread(), False
            with contextlib.suppress(RuntimeError):  # no thread can be had, as at the end of the interpreter
                self._thread.start()
        self._wake.set()

    def breathe(self) -> None:
        """Let the loop have the interpreter where it is time: for the worker, between pieces of work inside `take`."""
        self._breath.take()

    def flush(self, timeout: float) -> bool:
        """Wait until the worker has taken all frames, `timeout` seconds at the most; return whether it has."""
        self.release_held()
        if not self._is_ours():
            return False
        if self._deadline is not None and not self._is_alive():
            return not self._frames
        with self._answers:
            self._num_asked += 1
            ticket = self._num_asked
        self.wake()
        with self._answers:
            self._answers.wait_for(lambda: self._num_answered >= ticket or self._has_ended, timeout)
            return self._num_answered >= ticket

    def close(self, timeout: float) -> bool:
        """Flush and end the worker, within `timeout` seconds; return whether it ended in time."""
        self.end(time.monotonic() + timeout)
        return self.join()

    def end(self, deadline: float) -> None:
        """Have the worker take what is left and end, at `deadline` (monotonic) at the latest; does not wait."""
        self.release_held()
        self.wake()  # while a worker that died may still be replaced, for the frames that it left
        self._deadline = deadline
        self._wake.set()

    def join(self) -> bool:
        """Wait for the worker until its deadline; return whether it has ended. The worker itself does not wait."""
        if self._deadline is not None:
            self.await_worker(self._deadline)
        return not self._is_alive()

    def await_worker(self, deadline: float) -> None:
        """Wait for a worker that is about to end, until `deadline` (monotonic). The worker itself does not wait."""
        if self._is_alive() and not self.is_worker():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def is_worker(self) -> bool:
        """Whether the caller is on the worker thread."""
        return threading.current_thread() is self._thread

    def _is_time_to_look(self) -> bool:
        num_frames = len(self._frames)
        is_worth_it = num_frames >= _WANTED_FRAMES or self._has_rare_slots
        return num_frames >= self._wake_at or (is_worth_it and time.monotonic() - self._looked_seconds > _LOOK_SECONDS)

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="loopscope-worker", daemon=True)

    def _is_ours(self) -> bool:
        return os.getpid() == self._pid

    def _is_alive(self) -> bool:
        return self._is_ours() and self._thread.is_alive()

    def _run(self) -> None:
        is_done = False
        try:
            self._begin()
            while not is_done:
                is_done = self._turn()
            with self._site:
                self._on_end()
        finally:
            if not is_done:  # something stronger than an exception ended the thread
                self._guard.note(self._site, RuntimeError("the worker thread was ended from outside"))
            with self._answers:
                self._has_ended = True
                self._answers.notify_all()

    def _begin(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            with self._site:
                first()
        self._has_begun.set()

    def _turn(self) -> bool:
        self._wake.wait(_IDLE_SECONDS)
        self._wake.clear()
        self._looked_seconds, self._has_rare_slots = time.monotonic(), False
        deadline, num_asked = self._deadline, self._num_asked
        if deadline is not None or num_asked > self._num_answered:
            self.release_held()  # who asked could not, if this thread was at it
        with self._site:
            self._drain()
        if not self._frames:
            with self._answers:
                self._num_answered = num_asked
                self._answers.notify_all()
        elif num_asked > self._num_answered or deadline is not None:
            time.sleep(0.001)  # the device has not delivered yet
            self._wake.set()
        return deadline is not None and (not self._frames or time.monotonic() > deadline)

    def _drain(self) -> None:
        start_seconds = time.thread_time()
        with contextlib.suppress(IndexError):  # nothing is held, or the loop has just released it
            if time.time() - self._held[0].time_unix_seconds > _HOLD_SECONDS:
                self.release_held()
        try:
            self._take_ready()
        finally:
            self._tick()
            self.cpu_seconds += time.thread_time() - start_seconds

    def _take_ready(self) -> None:
        """Take what is there, until it is time for the next tick."""
        end_seconds = time.monotonic() + _LOOK_SECONDS
        self._breath.begin()
        while self._frames and _is_ready(self._frames[0]):
            self._take(self._frames.popleft())
            self._breath.take()
            if time.monotonic() > end_seconds:
                self._wake.set()  # there is more to do, but what was done is to be seen
                return

    def _has_time(self) -> bool:
        """Whether nobody waits for the worker, and it does not fall behind."""
        is_asked = not self._has_begun.is_set() or self._deadline is not None or self._num_asked > self._num_answered
        return not is_asked and len(self._frames) < self._wake_at + self._wake_at // 2


def _is_ready(frame: Frame) -> bool:
    return not isinstance(frame, StepFrame) or all(values.is_ready() for values in frame.pending())
