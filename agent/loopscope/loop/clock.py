"""Clock: where the time of a step goes, from host timestamps alone; times come in as arguments."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Clock", "Lap"]

_MAX_ITERATORS = 64
_MAX_AHEAD = 64


@dataclass(slots=True)
class Lap:
    """Where an optimizer stood at the end of its last step."""

    end_ns: int | None = None
    excluded_ns: int = 0
    data_wait_ns: int = 0
    forward_ns: int = 0
    backward_ns: int = 0
    num_samples: int = 0


class Clock:
    """Running totals of the phases; a step's share is the difference between two laps.

    - data_wait: time in `__next__` of the DataLoader whose batch the next backward uses.
    - forward: from that batch's arrival (or the last backward's or step's end) to the begin of the backward.
    - backward: inside `backward()`. On an accelerator this is the time the host was held there.
    - Validation and the turn of an epoch are left out: what lies between a step and the first batch of the next step
      counts only where no other pass began in between.
    """

    def __init__(self) -> None:
        self.total = Lap()
        self._mark_ns: int | None = None
        self._current: int | None = None
        self._first_request_ns: dict[int, int] = {}
        self._wait_ns: dict[int, int] = {}
        self._samples: deque[int] = deque(maxlen=_MAX_AHEAD)
        """Of the batches that no backward has used: one in most loops, more in those that fetch ahead."""
        self._is_used = False
        """Whether a backward has used a batch of the current pass: what is left of it then was fetched ahead."""
        self._has_switched = False
        self._backward_ns: int | None = None
        self._last_step_ns: int | None = None

    def batch_requested(self, iterator: int, now_ns: int, *, is_first: bool) -> None:
        """A batch of this iterator is asked for; a new pass may bear the number of one that has ended."""
        if is_first:
            self._first_request_ns.pop(iterator, None)
            self._wait_ns.pop(iterator, None)
        if len(self._first_request_ns) < _MAX_ITERATORS:
            self._first_request_ns.setdefault(iterator, now_ns)
        self._has_switched |= is_first

    def batch_arrived(self, iterator: int, requested_ns: int, now_ns: int, num_samples: int | None) -> None:
        """The batch is there."""
        if iterator in self._first_request_ns:
            self._wait_ns[iterator] = self._wait_ns.get(iterator, 0) + now_ns - requested_ns
        if iterator != self._current:
            self._samples.clear()
            self._is_used = False
        self._samples.append(num_samples or 0)
        self._current = iterator
        self._mark_ns = now_ns

    def pass_ended(self, iterator: int, now_ns: int) -> None:
        """The iterator has no batch left: what it gave and no backward used, as in validation, belongs to no step."""
        self._wait_ns.pop(iterator, None)
        if iterator == self._current:
            if not self._is_used:
                self._samples.clear()
            self._current, self._mark_ns = None, now_ns

    def backward_began(self, now_ns: int) -> None:
        """A backward begins: what came before it was its batch and its forward."""
        total = self.total
        if self._samples:
            total.num_samples += self._samples.popleft()
            self._is_used = True
        if self._current is not None:
            total.data_wait_ns += self._wait_ns.get(self._current, 0)
            self._leave_out_gap(self._current)
        if self._mark_ns is not None:
            total.forward_ns += now_ns - self._mark_ns
        self._wait_ns = {}
        self._backward_ns = now_ns

    def step_began(self, now_ns: int) -> None:
        """A step with a closure begins: the forward that follows is inside of it."""
        self._mark_ns = now_ns

    def outside_ns(self, now_ns: int) -> int:
        """A clock that stands still during forward and backward, by which optimizers are timed."""
        return now_ns - self.total.forward_ns - self.total.backward_ns

    def backward_ended(self, now_ns: int) -> None:
        """The backward has ended."""
        if self._backward_ns is not None:
            self.total.backward_ns += now_ns - self._backward_ns
        self._backward_ns, self._mark_ns = None, now_ns

    def step_ended(self, lap: Lap, optimizer_ns: int, now_ns: int) -> tuple[float | None, dict[str, float]]:
        """Return a step's duration and phases in seconds and bring `lap` up to date; None before the first boundary."""
        total = self.total
        start_ns = lap.end_ns
        phases_ns = {
            "data_wait": total.data_wait_ns - lap.data_wait_ns,
            "forward": total.forward_ns - lap.forward_ns,
            "backward": total.backward_ns - lap.backward_ns,
            "optimizer": optimizer_ns,
        }
        if start_ns is None:
            start_ns = self._first_request_ns.get(self._current) if self._current is not None else None
            excluded_ns = 0
        else:
            excluded_ns = total.excluded_ns - lap.excluded_ns
        lap.end_ns, lap.excluded_ns, lap.num_samples = now_ns, total.excluded_ns, total.num_samples
        lap.data_wait_ns, lap.forward_ns, lap.backward_ns = total.data_wait_ns, total.forward_ns, total.backward_ns
        self._mark_ns = self._last_step_ns = now_ns
        self._first_request_ns = {}
        if start_ns is None:
            return None, {}
        duration_ns = max(now_ns - start_ns - excluded_ns, 0)
        phases_ns["other"] = max(duration_ns - sum(phases_ns.values()), 0)
        return duration_ns / 1e9, {phase: value / 1e9 for phase, value in phases_ns.items()}

    def _leave_out_gap(self, iterator: int) -> None:
        """Leave out what lies between the last step and this pass's first batch, where another pass came between."""
        requested_ns = self._first_request_ns.get(iterator)
        if self._has_switched and requested_ns is not None and self._last_step_ns is not None:
            self.total.excluded_ns += max(requested_ns - self._last_step_ns, 0)
        self._has_switched = False
