"""Modes: joining and leaving the stack of dispatch modes where that cannot hurt, or as soon as it cannot."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from ..guard import Site
from ..hooks import out_of_dynamo

__all__ = ["is_stack_ours", "leave", "leave_soon"]

_DYNAMO = os.path.join(torch.__path__[0], "_dynamo", "eval_frame.py")  # noqa: PTH118 - as code objects have it
_MAX_EVENTS = 200
"""Calls and returns of Python that are waited for; the next operator waits again."""


def is_stack_ours() -> bool:
    """Whether the stack of this thread may be changed: nobody is about to bring it back to what it was.

    A compiled function does when it returns, and the autograd engine after each node. A mode that has come or gone
    meanwhile would be missing, or be back.
    """
    if torch._C._current_graph_task_id() != -1:  # private; -1 outside of backward
        return False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _DYNAMO and code.co_name != "_fn":  # that is the wrapper of what dynamo leaves alone
            return False
        frame = frame.f_back
    return True


def leave(mode: TorchDispatchMode) -> bool:
    """Take `mode` off the stack of this thread, if it is on top; return whether it was."""
    if _python_dispatch._get_current_dispatch_mode() is not mode or not is_stack_ours():
        return False
    mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # torch
    return True


def leave_soon(mode: TorchDispatchMode, site: Site, *, is_wanted: Callable[[], bool], left: Callable[[], None]) -> None:
    """Leave as soon as `mode` is on top again; for the mode itself, from within an operator, on its own thread.

    PyTorch puts a mode back when its operator is done, after all that the mode can do by itself. The next call or
    return of a Python function is told to the profile function of the thread, where nobody else has set one.
    """
    if sys.getprofile() is not None or torch._C._current_graph_task_id() != -1:
        return
    num_events = 0

    @out_of_dynamo
    def see(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal num_events
        num_events += 1
        is_over = True
        with site:
            is_over = is_wanted() or num_events >= _MAX_EVENTS
            if not is_over and leave(mode):
                left()
                is_over = True
        if is_over:
            sys.setprofile(None)

    sys.setprofile(see)
