"""Passes: which passes of DataLoaders are epochs, and when an epoch has ended."""

from __future__ import annotations

import weakref

__all__ = ["Passes"]


class Passes:
    """An epoch is one pass of the DataLoader whose iteration contained optimizer steps.

    It ends with the pass: at its StopIteration, when its iterator starts anew, or when the next step finds that the
    iterator is gone (an abandoned pass). Passes without steps (validation) are not epochs. Explicit marks
    (`agent.epoch()`) or `steps_per_epoch` turn the passes off.
    """

    def __init__(self, initial_epoch: int, steps_per_epoch: int | None) -> None:
        self.epoch = initial_epoch
        self.num_steps = 0
        """Steps since the current epoch began."""
        self._steps_per_epoch = steps_per_epoch
        self._is_explicit = steps_per_epoch is not None
        self._latest: weakref.ref[object] | None = None
        self._current: weakref.ref[object] | None = None

    @property
    def is_in_epoch(self) -> bool:
        """Whether an epoch with steps is under way, known by a pass or by explicit marks."""
        return self.num_steps > 0 and (self._current is not None or self._is_explicit)

    def batch_requested(self, iterator: object, *, is_first: bool) -> bool:
        """Note a request; return whether it shows that the current epoch has ended."""
        if is_first and self._is_current(iterator):
            return self._end()
        return False

    def batch_arrived(self, iterator: object, *, has_ended: bool) -> bool:
        """Note a batch or the end of a pass; return whether the current epoch has ended with it."""
        if has_ended:
            return self._is_current(iterator) and self._end()
        if self._latest is None or self._latest() is not iterator:
            self._latest = weakref.ref(iterator)
        return False

    def step_begins(self) -> bool:
        """Note that a step is about to count; return whether an abandoned epoch has ended before it."""
        has_ended = not self._is_explicit and self._current is not None and self._current() is None and self._end()
        if not self._is_explicit and self._current is None and self._latest is not None and self._latest() is not None:
            self._current = self._latest
        return has_ended

    def step_ended(self) -> bool:
        """Count a step; return whether the epoch has ended with it."""
        self.num_steps += 1
        return self._steps_per_epoch is not None and self.num_steps >= self._steps_per_epoch and self._end()

    def mark(self) -> bool:
        """End the epoch by hand; return whether there was one with steps. From now on only marks end epochs."""
        self._is_explicit, self._current, self._steps_per_epoch = True, None, None
        return self.num_steps > 0 and self._end()

    def _is_current(self, iterator: object) -> bool:
        return self._current is not None and self._current() is iterator

    def _end(self) -> bool:
        had_steps = self.num_steps > 0
        self.epoch += had_steps
        self.num_steps, self._current = 0, None
        return had_steps
