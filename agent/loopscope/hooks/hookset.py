"""HookSet: every hook and patch that an agent owns; installs, removes in reverse order, never leaks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..guard import Site
from .patches import Finish, Observer, out_of_dynamo, patch_of
from .replacements import replacement_of
from .steps import await_steps

__all__ = ["HookSet"]


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
        patch = patch_of(owner, name)
        shielded = self._shield(observer, site)

        def observe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
            finish = shielded(args, kwargs)
            return None if finish is None else self._shield(finish, site)

        patch.add(observe)
        self._removers.append(lambda: patch.discard(observe))
        return True

    def replace(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> bool:
        """Have `wrap(original)` in place of `owner.name` until `remove`; False where this torch has no such function.

        For functions that are called so often that `patch` would be too dear: the wrapper does all by itself, tests
        `torch.compiler.is_compiling()` first, calls nothing that dynamo could compile, and passes through when nobody
        listens. All agents share one, as long as they pass the same `wrap`.
        """
        if not hasattr(owner, name):
            return False
        replacement = replacement_of(owner, name, wrap)
        replacement.retain()
        self._removers.append(replacement.release)
        return True

    def before_step(self, callback: Callable[[Any, Any, Any], Any], site: Site) -> None:
        """Call back before each optimizer step of the process."""
        hook = out_of_dynamo(self._shield(callback, site))
        await_steps()
        self._removers.append(_remover(register_optimizer_step_pre_hook(hook)))

    def after_step(self, callback: Callable[[Any, Any, Any], None], site: Site) -> None:
        """Call back after each optimizer step of the process that did not raise."""
        hook = out_of_dynamo(self._shield(callback, site))
        await_steps()
        self._removers.append(_remover(register_optimizer_step_post_hook(hook)))

    def shield(self, callback: Callable[..., Any], site: Site) -> Callable[..., Any]:
        """Return `callback` behind the guard and the cost clock, unseen by dynamo."""
        return out_of_dynamo(self._shield(callback, site))

    def on_remove(self, callback: Callable[[], None]) -> None:
        """Have `callback` called by `remove`, in its turn."""
        self._removers.append(callback)

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


def _remover(handle: Any) -> Callable[[], None]:
    def remove() -> None:
        await_steps()
        handle.remove()

    return remove
