"""CompileStart: is told when dynamo begins to compile, before it has read the code; and how much it has compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

__all__ = ["CompileStart", "has_compiled_code", "num_compiled"]


class CompileStart:
    """Calls back on the thread that compiles, between `listen` and `stop`. Never imports dynamo."""

    def __init__(self, callback: Callable[..., Any]) -> None:
        self._callback = callback
        self._handler: Any = None

    @property
    def is_safe(self) -> bool:
        """Whether a hook on a module that came after its compilation leaves the compiled code valid.

        It does by default, as guards on hooks are left out (`torch._dynamo.config.skip_nnmodule_hook_guards`).
        """
        config = sys.modules.get("torch._dynamo.config")  # private; torch 2.1 to 2.13
        return config is None or bool(getattr(config, "skip_nnmodule_hook_guards", False)) or not num_compiled()

    def listen(self) -> None:
        """Be told from now on; a second call puts right what `torch._dynamo.reset` took out."""
        module = sys.modules.get("torch._dynamo.callback")  # private; torch 2.4 to 2.13
        handler = getattr(module, "callback_handler", None)
        if handler is not None and self._callback not in handler.start_callbacks:
            handler.register_start_callback(self._callback)
            self._handler = handler

    def stop(self) -> None:
        """Be told no longer."""
        if self._handler is not None and self._callback in self._handler.start_callbacks:
            self._handler.remove_start_callback(self._callback)
        self._handler = None


def num_compiled() -> int:
    """Number of graphs that dynamo has compiled since the process began, or since its counters were cleared."""
    counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", None)  # private; torch 2.1 to 2.13
    return 0 if counters is None else int(counters["stats"]["unique_graphs"])


def has_compiled_code(function: Any) -> bool:
    """Whether dynamo has compiled code in the place of a function or method."""
    frames = getattr(getattr(sys.modules.get("torch._C"), "_dynamo", None), "eval_frame", None)
    entries = getattr(frames, "_debug_get_cache_entry_list", None)  # private; torch 2.1 to 2.13
    code = getattr(function, "__code__", None)
    return entries is not None and isinstance(code, CodeType) and bool(entries(code))
