"""Passes: which passes of DataLoaders are epochs, and when an epoch has ended."""

from __future__ import annotations

import weakref

__all__ = ["Passes"]


class Passes:
    """An epoch is one pass of the DataLoader whose iteration contained optimizer steps.

    It ends with the pass: at its StopIteration (or once the batches fetched ahead of it are used), when its iterator
    starts anew, or when the next step finds that the iterator is gone (an abandoned pass). Passes without steps
    (validation) are not epochs. Explicit marks (`agent.epoch()`) or `steps_per_epoch` turn the passes off.
    """

    def __init__(self, initial_epoch: int, steps_per_epoch: int | None) -> None:
        self.epoch = initial_epoch
        self.num_steps = 0
        """Steps since the current epoch began."""
        self._steps_per_epoch = steps_per_epoch
        self._is_explicit = steps_per_epoch is not None
        self._latest: weakref.ref[object] | None = None
        self._current: weakref.ref[object] | None = None
        self._num_unused = 0
        self._num_arrived: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
        """Batches of each pass under way: a validation may come between two batches of a training pass."""
        self._used: weakref.ref[object] | None = None
        """The pass that the latest step took its batches from."""
        self._is_over = False
        self._counted: weakref.ref[object] | None = None
        self._num_others = 0
        """Steps of other optimizers since the counted one's last: it may have been put aside."""

    @property
    def is_in_epoch(self) -> bool:
        """Whether an epoch with steps is under way, known by a pass or by explicit marks."""
        return self.num_steps > 0 and (self._current is not None or self._is_explicit)

    @property
    def position(self) -> tuple[int, int | None]:
        """Epoch, and index within its pass of the batch that was used last; None where no loader is known."""
        used = self._used() if self._used is not None else None
        if used is None:
            return self.epoch, None
        is_latest = (self._latest is not None and self._latest() is used) or (self._latest is None and self._is_over)
        num_used = self._num_arrived.get(used, 0) - (self._num_unused if is_latest else 0)
        return self.epoch, num_used - 1 if num_used > 0 else None

    def batch_requested(self, iterator: object, *, is_first: bool) -> bool:
        """Note a request; return whether it shows that the current epoch has ended."""
        if is_first:
            self._num_arrived.pop(iterator, None)
        if self._is_over or (is_first and self._is_current(iterator)):
            return self._end()
        return False

    def batch_arrived(self, iterator: object, *, has_ended: bool) -> bool:
        """Note a batch or the end of a pass; return whether the current epoch has ended with it."""
        if has_ended:
            is_latest = self._latest is not None and self._latest() is iterator
            self._latest = None if is_latest else self._latest
            self._is_over = self._is_current(iterator)
            if not is_latest or self._num_unused == 0:
                self._num_arrived.pop(iterator, None)
            return self._is_over and self._num_unused == 0 and self._end()
        if self._latest is None or self._latest() is not iterator:
            self._latest, self._num_unused = weakref.ref(iterator), 0
        self._num_unused += 1
        self._num_arrived[iterator] = self._num_arrived.get(iterator, 0) + 1
        return False

    def backward_began(self) -> None:
        """Note that a batch is used: a loop that fetches ahead has some left when the pass is over."""
        self._num_unused = max(self._num_unused - 1, 0)

    def step_begins(self) -> bool:
        """Note that a step is about to count; return whether an abandoned epoch has ended before it."""
        has_ended = not self._is_explicit and self._current is not None and self._current() is None and self._end()
        if not self._is_explicit and self._current is None and self._latest is not None and self._latest() is not None:
            self._current = self._latest
        self._used = self._current or self._latest or self._used
        return has_ended

    def step_ended(self, optimizer: object) -> bool:
        """Count a step; return whether the epoch has ended with it. Of several optimizers the first one counts."""
        counted = self._counted() if self._counted is not None else None
        if counted is None or self._num_others > (self._steps_per_epoch or 0):
            self._counted, counted = weakref.ref(optimizer), optimizer
        if optimizer is not counted and self._steps_per_epoch is not None:
            self._num_others += 1
            return False
        self._num_others = 0
        self.num_steps += 1
        is_long_enough = self._steps_per_epoch is not None and self.num_steps >= self._steps_per_epoch
        return (is_long_enough or (self._is_over and self._num_unused == 0)) and self._end()

    def mark(self) -> bool:
        """End the epoch by hand; return whether there was one with steps. From now on only marks end epochs."""
        self._is_explicit, self._current, self._steps_per_epoch = True, None, None
        return self.num_steps > 0 and self._end()

    def _is_current(self, iterator: object) -> bool:
        return self._current is not None and self._current() is iterator

    def _end(self) -> bool:
        had_steps = self.num_steps > 0
        self.epoch += had_steps
        self.num_steps, self._current, self._is_over = 0, None, False
        return had_steps
