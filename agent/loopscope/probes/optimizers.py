"""OptimizerProbe: sees optimizer steps, their closures, steps that a GradScaler skips, and zeroed gradients."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from ..guard import Site
from ..hooks import Finish, HookSet

__all__ = ["OptimizerListener", "OptimizerProbe"]


class OptimizerListener(Protocol):
    """Who wants to know of optimizer steps. Nested steps (`super().step()`, wrapped optimizers) are one step."""

    def step_began(self, optimizer: Optimizer, *, has_closure: bool) -> bool:
        """A step begins; return whether anybody watches this optimizer."""

    def gradients_final(self, optimizer: Optimizer) -> None:
        """The gradients are what the optimizer will apply: at the step's begin, or after the first closure call."""

    def step_ended(self, optimizer: Optimizer) -> None:
        """The step has ended."""

    def step_skipped(self, optimizer: Optimizer) -> None:
        """A GradScaler has left the step out."""

    def gradients_zeroing(self, owner: Optimizer | torch.nn.Module, *, is_in_step: bool) -> None:
        """The gradients of an optimizer or a module are about to be zeroed, by a step's closure or by the loop."""


class OptimizerProbe:
    """Global optimizer step hooks, and patches of `zero_grad` and `GradScaler._maybe_opt_step`."""

    name = "optimizers"

    def __init__(self, hooks: HookSet, site: Site, listener: OptimizerListener) -> None:
        self._hooks, self._site, self._listener = hooks, site, listener
        self._depths: dict[int, int] = {}
        self._num_begun = 0

    def install(self) -> None:
        """Register and patch."""
        self._hooks.before_step(self._before_step, self._site)
        self._hooks.after_step(self._after_step, self._site)
        self._hooks.patch(Optimizer, "zero_grad", self._see_zero_grad, self._site)
        self._hooks.patch(torch.nn.Module, "zero_grad", self._see_zero_grad, self._site)
        self._hooks.patch(GradScaler, "_maybe_opt_step", self._see_maybe_step, self._site)

    def remove(self) -> None:
        """Nothing beyond what the HookSet removes."""
        self._depths.clear()

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._num_begun += 1
        thread = threading.get_ident()
        depth = self._depths.get(thread, 0)
        if depth and _num_step_frames() > 1:  # else the step before this one raised, and its post hook never came
            self._depths[thread] = depth + 1
            return None
        self._depths[thread] = 1
        place, closure = _find_closure(args, kwargs)
        if not self._listener.step_began(optimizer, has_closure=closure is not None):
            del self._depths[thread]  # a step inside of somebody else's may be ours
            return None
        if closure is None:
            self._listener.gradients_final(optimizer)
            return None
        return _with_closure(args, kwargs, place, self._wrap_closure(optimizer, closure))

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        thread = threading.get_ident()
        depth = self._depths.pop(thread, 0)
        if depth > 1:
            self._depths[thread] = depth - 1
        elif depth == 1:
            self._listener.step_ended(optimizer)

    def _wrap_closure(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        after_first = self._hooks.shield(lambda: self._listener.gradients_final(optimizer), self._site)
        is_first = True

        def evaluate() -> Any:
            nonlocal is_first
            result = closure()
            if is_first:
                is_first = False
                after_first()
            return result

        return evaluate

    def _see_zero_grad(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        is_in_step = threading.get_ident() in self._depths and _num_step_frames() > 0
        self._listener.gradients_zeroing(args[0], is_in_step=is_in_step)
        return None

    def _see_maybe_step(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        optimizer = args[1] if len(args) > 1 else kwargs["optimizer"]
        num_before = self._num_begun

        def finish(result: Any, is_done: bool) -> None:
            if is_done and self._num_begun == num_before:
                self._listener.step_skipped(optimizer)

        return finish


def _num_step_frames() -> int:
    """Optimizer steps that are on this thread's stack (rarely asked: only when one seems to be nested)."""
    frame, count = sys._getframe(), 0
    wrapper_file = Optimizer.profile_hook_step.__code__.co_filename
    while (caller := frame.f_back) is not None:
        frame = caller
        code = frame.f_code
        count += code.co_name == "wrapper" and code.co_filename == wrapper_file
    return count


def _find_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int | str, Callable[[], Any] | None]:
    if callable(kwargs.get("closure")):
        return "closure", kwargs["closure"]
    if len(args) > 1 and callable(args[1]):
        return 1, args[1]
    return 0, None


def _with_closure(
    args: tuple[Any, ...], kwargs: dict[str, Any], place: int | str, closure: Callable[[], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(place, str):
        return args, {**kwargs, place: closure}
    return (*args[:place], closure, *args[place + 1 :]), kwargs
