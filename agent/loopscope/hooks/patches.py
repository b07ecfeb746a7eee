"""Patches of torch functions that all agents of the process share, in the form that dynamo tolerates.

A patch is reference-counted and restored exactly when the last agent leaves.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch

__all__ = [
    "Finish",
    "Observer",
    "Patch",
    "num_patches",
    "num_wrapper_frames",
    "out_of_dynamo",
    "patch_of",
    "patching",
    "skip_code",
]

Finish: TypeAlias = Callable[[Any, bool], None]
"""Called after the patched function with its result and True, or with None and False while its exception passes."""
Observer: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Finish | None]
"""Called before the patched function with its arguments; may return a Finish."""

_PATCH_WAIT_SECONDS = 0.2
_patches: dict[tuple[int, str], Patch] = {}
_patch_lock = threading.Lock()


def num_wrapper_frames() -> int:
    """Number of patched functions that are on this thread's stack."""
    frame, count = sys._getframe(), 0
    while (caller := frame.f_back) is not None:
        frame = caller
        count += frame.f_code.co_name == "wrapper" and frame.f_code.co_filename == __file__
    return count


def num_patches() -> int:
    """Number of torch functions that are patched at present."""
    return len(_patches)


def patch_of(owner: Any, name: str) -> Patch:
    """Return the patch of `owner.name`, a new one where there is none to join."""
    patch = _patches.get((id(owner), name))
    return patch if patch is not None and patch.is_usable else Patch(owner, name)


def out_of_dynamo(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` such that dynamo neither traces nor compiles it or what it calls.

    Where dynamo is not at work on this thread, a loop that compiles nothing, the switching off is left out: it takes
    longer than many a callback.
    """
    disabled: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]  # torch
    eval_frame = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
    active_callback = getattr(eval_frame, "get_eval_frame_callback", None)  # private; torch 2.13
    if active_callback is None:
        return disabled

    @functools.wraps(disabled)  # with the marks on it, by which dynamo knows it while it traces a caller
    def apart(*args: Any, **kwargs: Any) -> Any:
        if active_callback() is None:
            return function(*args, **kwargs)
        return disabled(*args, **kwargs)

    skip_code(apart)
    return apart


def skip_code(function: Callable[..., Any]) -> None:
    """Have dynamo leave the frames of `function` alone, but not those of what it calls; free at run time."""
    from torch._dynamo import eval_frame

    skip = getattr(eval_frame, "skip_code", None)  # private; torch 2.4 to 2.13, without it patches cost a break
    if skip is not None:
        skip(function.__code__)


class Patch:
    """One wrapped function and who observes it."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name
        self._is_own = name in vars(owner)
        self._original = inspect.getattr_static(owner, name)
        self._observers: tuple[Observer, ...] = ()
        self._wrapper = _wrap(getattr(owner, name), out_of_dynamo(self._begin), out_of_dynamo(_end))

    @property
    def is_usable(self) -> bool:
        """Whether it is observed, or on top; below a foreign patch that outlived our last observer it is neither."""
        return bool(self._observers) or self._is_on_top()

    def add(self, observer: Observer) -> None:
        """Have `observer` called from now on."""
        with patching():
            self._add(observer)

    def discard(self, observer: Observer) -> None:
        """Have it called no longer; the last one restores the function, unless a foreign patch lies on top."""
        with patching():
            self._discard(observer)

    def _add(self, observer: Observer) -> None:
        if not self._observers:
            _patches[id(self._owner), self._name] = self
            if not self._is_on_top():
                setattr(self._owner, self._name, self._wrapper)
        self._observers += (observer,)

    def _discard(self, observer: Observer) -> None:
        self._observers = tuple(other for other in self._observers if other is not observer)
        if self._observers or not self._is_on_top():
            return  # somebody else patched on top of ours: stay, passing through, until they leave
        if self._is_own:
            setattr(self._owner, self._name, self._original)
        else:
            delattr(self._owner, self._name)
        _patches.pop((id(self._owner), self._name), None)

    def _is_on_top(self) -> bool:
        return inspect.getattr_static(self._owner, self._name) is self._wrapper

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Finish]:
        return [finish for observer in self._observers if (finish := observer(args, kwargs)) is not None]


@contextlib.contextmanager
def patching() -> Iterator[None]:
    """One thread at a time changes patches: attach on the loop's, an agent that closes itself on its worker's.

    A fork may copy the lock while another thread holds it; nobody waits for it longer than a moment.
    """
    is_held = _patch_lock.acquire(timeout=_PATCH_WAIT_SECONDS)
    try:
        yield
    finally:
        if is_held:
            _patch_lock.release()


def _end(finishes: list[Finish], result: Any, is_done: bool) -> None:
    for finish in reversed(finishes):
        finish(result, is_done)


def _wrap(
    original: Callable[..., Any], begin: Callable[..., list[Finish]], end: Callable[..., None]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        finishes = begin(args, kwargs)
        if not finishes:
            return original(*args, **kwargs)
        result, is_done = None, False
        try:
            result = original(*args, **kwargs)
            is_done = True
            return result
        finally:
            end(finishes, result, is_done)

    skip_code(wrapper)
    return wrapper
