"""Optimizer step hooks: when it is safe to change torch's global dictionaries of them."""

from __future__ import annotations

import sys
import threading
import time

from torch.optim import Optimizer

__all__ = ["await_steps"]

_STEP_WAIT_SECONDS = 0.2
"""Longest wait for other threads to be out of the hooks of an optimizer step."""


def await_steps() -> None:
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
