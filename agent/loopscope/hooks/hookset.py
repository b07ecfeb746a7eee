"""HookSet: every hook and patch that an agent owns; installs, removes in reverse order, never leaks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..guard import Site
from .patches import Observer, out_of_dynamo, patch_of
from .relays import Relay
from .replacements import replacement_of
from .steps import await_steps

__all__ = ["HookSet"]


class HookSet:
    """The hooks of one agent. Callbacks run behind a guard site, in the process that installed them only.

    `spent_ns` adds up the wall time of all callbacks: the cost of the agent on the training thread.
    """

    def __init__(self) -> None:
        self.spent_ns = 0
        self._removers = contextlib.ExitStack()
        self.num_hooks = 0
        """Hooks and patches in place."""
        self._relays: dict[tuple[int, str], Relay] = {}

    def patch(self, owner: Any, name: str, observer: Observer, site: Site) -> bool:
        """Observe calls of `owner.name` until `remove`; False where this torch has no such function."""
        if not hasattr(owner, name):
            return False
        relay = self._relays.get((id(owner), name))
        if relay is None:
            relay, patch = Relay(self), patch_of(owner, name)
            self._relays[id(owner), name] = relay
            patch.add(relay)
            self.on_remove(lambda: patch.discard(relay))
        relay.add(observer, site)
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
        self.on_remove(replacement.release)
        return True

    def before_step(self, callback: Callable[[Any, Any, Any], Any], site: Site) -> None:
        """Call back before each optimizer step of the process."""
        hook = out_of_dynamo(site.wrap(callback, self))
        await_steps()
        self.on_remove(_remover(register_optimizer_step_pre_hook(hook)))

    def after_step(self, callback: Callable[[Any, Any, Any], None], site: Site) -> None:
        """Call back after each optimizer step of the process that did not raise."""
        hook = out_of_dynamo(site.wrap(callback, self))
        await_steps()
        self.on_remove(_remover(register_optimizer_step_post_hook(hook)))

    def shield(self, callback: Callable[..., Any], site: Site) -> Callable[..., Any]:
        """Return `callback` behind the guard and the cost clock, unseen by dynamo."""
        return out_of_dynamo(site.wrap(callback, self))

    def on_remove(self, callback: Callable[[], None]) -> None:
        """Have `callback` called by `remove`, in its turn."""
        self.num_hooks += 1
        self._removers.callback(callback)

    def remove(self) -> None:
        """Take everything out again, in reverse order, also what comes after one that fails; then its error is raised.

        A second call does nothing.
        """
        self._relays.clear()
        self._removers.close()
        self.num_hooks = 0


def _remover(handle: Any) -> Callable[[], None]:
    def remove() -> None:
        await_steps()
        handle.remove()

    return remove
