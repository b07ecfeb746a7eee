"""HookProbe: audits the hooks on the model every so many steps, the more rarely the longer nothing changes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import Module

from ...guard import Site
from ...hooks import CompileStart, Finish, HookSet
from ...records import HookCount, HookSilence
from ...sites import Origin
from .census import Census, Found
from .functions import place_of
from .holders import holders_of
from .looks import Looks

__all__ = ["HookProbe"]

_MIN_STEPS = 8
_MIN_WAIT, _MAX_WAIT = 200, 2_000
"""The next audit waits for so many times what the last one took: half a per cent of the time where audits find news,
down to a twentieth of one where they do not.
"""
_NUM_AT_ONCE = 12
"""The first audits, if cheap, wait for steps only: what is wrong is there from the beginning as a rule."""
_CHEAP_SECONDS = 12e-3
"""What they may take together."""
_MAX_PENDING = 200
_MAX_HOLDERS = 64
"""Hooks whose containers one audit looks into."""

_Key = tuple[str, ...]


class HookProbe:
    """Counts on the training thread at the end of a step; looks whether hooks run during the step after it."""

    name = "hooks"

    def __init__(
        self,
        hooks: HookSet,
        site: Site,
        models: Callable[[], Mapping[str, Module]],
        optimizers: Callable[[], Iterable[Any]],
    ) -> None:
        self._hooks, self._site, self._models, self._optimizers = hooks, site, models, optimizers
        self._census = Census()
        self._looks = Looks(
            hooks.shield(self._see_call, site), CompileStart(hooks.shield(lambda *_: self._looks.retreat(), site))
        )
        self._counts: dict[_Key, int] = {}
        self._held: dict[_Key, tuple[tuple[int, int], int]] = {}
        self._pending: deque[HookCount | HookSilence] = deque(maxlen=_MAX_PENDING)
        self._steps_left, self._next_seconds, self._wait = 0, 0.0, _MIN_WAIT
        self._num_audits, self._spent_seconds = 0, 0.0
        self._backward_depth = 0

    def install(self) -> None:
        """Patch what runs a backward, and take stock: what is there now is not news."""
        self._hooks.patch(torch.autograd, "backward", self._see_backward, self._site)
        self._audit()
        self._pending.clear()

    def remove(self) -> None:
        """Take our hooks off."""
        self._looks.retreat()

    def end_step(self) -> Sequence[HookCount | HookSilence]:
        """A step has ended, on the training thread; return what is new. Costs a microsecond where no audit is due."""
        if self._looks.is_on:
            self._pending += self._looks.end()
        self._steps_left -= 1
        if self._steps_left <= 0 and time.monotonic() >= self._next_seconds:
            self._audit()
        elif self._looks.wants_more:
            self._looks.begin(self._models())
        return self.collect()

    def collect(self) -> Sequence[HookCount | HookSilence]:
        """Return what is new."""
        return [self._pending.popleft() for _ in range(len(self._pending))] if self._pending else ()

    def _audit(self) -> None:
        start_seconds, self._steps_left = time.thread_time(), _MIN_STEPS
        num_pending = len(self._pending)
        models = self._models()
        found = list(self._census.take(models, self._optimizers()))
        if found or self._counts:
            self._count(found)
            self._look_into(found)
            self._looks.update(found)
            self._looks.begin(models)
        self._num_audits += 1
        took_seconds = time.thread_time() - start_seconds
        self._spent_seconds += took_seconds
        if self._num_audits <= _NUM_AT_ONCE and self._spent_seconds < _CHEAP_SECONDS:
            return
        is_news = len(self._pending) > num_pending or self._looks.is_on
        self._wait = _MIN_WAIT if is_news else min(2 * self._wait, _MAX_WAIT)
        self._next_seconds = time.monotonic() + self._wait * took_seconds

    def _count(self, found: Sequence[Found]) -> None:
        """Note where there are more hooks, or fewer, than there were."""
        counts: dict[_Key, int] = {}
        for each in found:
            for place, count in each.functions().items():
                key: _Key = (each.where, each.hook_kind, place.site, place.function)
                counts[key] = counts.get(key, 0) + count
        for key in counts.keys() | self._counts.keys():
            if counts.get(key, 0) != self._counts.get(key, 0):
                where, hook_kind, site, function = key
                self._pending.append(
                    HookCount(where=where, hook_kind=hook_kind, site=site, function=function, count=counts.get(key, 0))
                )
        self._counts = counts

    def _look_into(self, found: Sequence[Found]) -> None:
        """Note which containers have more tensors with a graph than at the audit before."""
        held: dict[_Key, tuple[tuple[int, int], int]] = {}
        num_left, seen = _MAX_HOLDERS, set()
        for each in found:
            for hook in list(each.hooks.values())[-_MAX_HOLDERS:]:
                if num_left <= 0 or id(hook) in seen:
                    continue
                seen.add(id(hook))
                num_left -= 1
                self._look_at(each, hook, held)
        self._held = held

    def _look_at(self, each: Found, hook: Any, held: dict[_Key, tuple[tuple[int, int], int]]) -> None:
        place = place_of(hook)
        if place.origin not in {Origin.USER, Origin.PACKAGE}:
            return
        for holder in holders_of(hook):
            key = (each.where, each.hook_kind, place.site, place.function, holder.name)
            identity, count = self._held.get(key, (holder.identity, 0))
            is_same = identity == holder.identity
            held[key] = (holder.identity, holder.num_elements)
            if not is_same or holder.num_elements != count:
                self._pending.append(
                    HookCount(
                        where=each.where,
                        hook_kind=each.hook_kind,
                        site=place.site,
                        function=place.function,
                        count=holder.num_elements if is_same else 0,
                        container=holder.name,
                    )
                )

    def _see_call(self, watched: Any, is_parent: bool, module: Module, _: Any, __: Any) -> None:
        self._looks.note_call(watched, is_parent, module)

    def _see_backward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        if not self._looks.is_on:
            self._backward_depth = 0
            return None
        self._backward_depth += 1
        if self._backward_depth == 1:
            self._looks.begin_backward()

        def finish(result: Any, is_done: bool) -> None:
            self._backward_depth -= 1
            if self._backward_depth == 0 and is_done:
                self._looks.end_backward()

        return finish
