"""HookSet: every hook and patch that an agent owns; installs, removes in reverse order, never leaks.

A patch wraps one torch function for all agents of the process (reference-counted) and is restored exactly when the
last one leaves. The wrapper has the form that dynamo tolerates: `functools.wraps`, an `is_compiling` branch that calls
the original, and `skip_code`, so that graphs, breaks and recompiles are those of the unpatched function.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from .guard import Site

__all__ = ["Finish", "HookSet", "Observer", "num_patches", "num_wrapper_frames"]

Finish: TypeAlias = Callable[[Any, bool], None]
"""Called after the patched function with its result and True, or with None and False while its exception passes."""
Observer: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Finish | None]
"""Called before the patched function with its arguments; may return a Finish."""

_STEP_WAIT_SECONDS = 0.2
"""Longest wait for other threads to be out of the hooks of an optimizer step."""
_PATCH_WAIT_SECONDS = 0.2
_patches: dict[tuple[int, str], _Patch] = {}
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


class HookSet:
    """The hooks of one agent. Callbacks run behind a guard site, in the process that installed them only.

    `spent_ns` adds up the wall time of all callbacks: the cost of the agent on the training thread.
    """

    def __init__(self) -> None:
        self.spent_ns = 0
        self._pid = os.getpid()
        self._removers: list[Callable[[], None]] = []

    @property
    def num_hooks(self) -> int:
        """Hooks and patches in place."""
        return len(self._removers)

    def patch(self, owner: Any, name: str, observer: Observer, site: Site) -> bool:
        """Observe calls of `owner.name` until `remove`; False where this torch has no such function."""
        if not hasattr(owner, name):
            return False
        patch = _patches.get((id(owner), name))
        if patch is None or not patch.is_usable:
            patch = _Patch(owner, name)
        shielded = self._shield(observer, site)

        def observe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
            finish = shielded(args, kwargs)
            return None if finish is None else self._shield(finish, site)

        patch.add(observe)
        self._removers.append(lambda: patch.discard(observe))
        return True

    def before_step(self, callback: Callable[[Any, Any, Any], Any], site: Site) -> None:
        """Call back before each optimizer step of the process."""
        hook = _out_of_dynamo(self._shield(callback, site))
        _await_steps()
        self._removers.append(_remover(register_optimizer_step_pre_hook(hook)))

    def after_step(self, callback: Callable[[Any, Any, Any], None], site: Site) -> None:
        """Call back after each optimizer step of the process that did not raise."""
        hook = _out_of_dynamo(self._shield(callback, site))
        _await_steps()
        self._removers.append(_remover(register_optimizer_step_post_hook(hook)))

    def shield(self, callback: Callable[..., Any], site: Site) -> Callable[..., Any]:
        """Return `callback` behind the guard and the cost clock, unseen by dynamo."""
        return _out_of_dynamo(self._shield(callback, site))

    def remove(self) -> None:
        """Take everything out again, in reverse order; a second call does nothing."""
        while self._removers:
            self._removers.pop()()

    def _shield(self, callback: Callable[..., Any], site: Site) -> Callable[..., Any]:
        def shielded(*args: Any) -> Any:
            if not site.is_enabled or os.getpid() != self._pid:
                return None
            start_ns = time.perf_counter_ns()
            try:
                with site:
                    return callback(*args)
            finally:
                self.spent_ns += time.perf_counter_ns() - start_ns
            return None

        return shielded


class _Patch:
    """One wrapped function and who observes it."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name
        self._is_own = name in vars(owner)
        self._original = inspect.getattr_static(owner, name)
        self._observers: tuple[Observer, ...] = ()
        self._wrapper = _wrap(getattr(owner, name), _out_of_dynamo(self._begin), _out_of_dynamo(_end))

    @property
    def is_usable(self) -> bool:
        """Whether it is observed, or on top; below a foreign patch that outlived our last observer it is neither."""
        return bool(self._observers) or self._is_on_top()

    def add(self, observer: Observer) -> None:
        with _patching():
            self._add(observer)

    def discard(self, observer: Observer) -> None:
        with _patching():
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
def _patching() -> Iterator[None]:
    """One thread at a time changes patches: attach on the loop's, an agent that closes itself on its worker's.

    A fork may copy the lock while another thread holds it; nobody waits for it longer than a moment.
    """
    is_held = _patch_lock.acquire(timeout=_PATCH_WAIT_SECONDS)
    try:
        yield
    finally:
        if is_held:
            _patch_lock.release()


def _remover(handle: Any) -> Callable[[], None]:
    def remove() -> None:
        _await_steps()
        handle.remove()

    return remove


def _await_steps() -> None:
    """Wait for a moment at which no other thread walks over torch's global step hooks.

    torch iterates over the dictionary without a lock: a hook that comes or goes meanwhile, as when an agent closes
    itself on its worker, would raise "OrderedDict mutated during iteration" into the other thread's training loop.
    Waking up brings a fresh time slice (sys.getswitchinterval), in which the caller then changes the dictionary.
    """
    deadline = time.monotonic() + _STEP_WAIT_SECONDS
    time.sleep(0)
    while _is_another_in_step_hooks() and time.monotonic() < deadline:
        time.sleep(0.0005)


def _is_another_in_step_hooks() -> bool:
    """Whether any other thread is in the wrapper of an optimizer's step, but not in the step itself."""
    wrapper_file = Optimizer.profile_hook_step.__code__.co_filename
    for thread, innermost in sys._current_frames().items():
        inner, frame = None, innermost if thread != threading.get_ident() else None
        while frame is not None:
            if frame.f_code.co_name == "wrapper" and frame.f_code.co_filename == wrapper_file:
                step = getattr(frame.f_locals.get("func"), "__code__", None)
                if inner is None or inner.f_code is not step:
                    return True
            inner, frame = frame, frame.f_back
    return False


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

    _skip_code(wrapper)
    return wrapper


def _skip_code(function: Callable[..., Any]) -> None:
    from torch._dynamo import eval_frame

    skip_code = getattr(eval_frame, "skip_code", None)  # private; torch 2.4 to 2.13, without it patches cost a break
    if skip_code is not None:
        skip_code(function.__code__)


def _out_of_dynamo(function: Callable[..., Any]) -> Callable[..., Any]:
    disabled: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]  # torch
    return disabled
