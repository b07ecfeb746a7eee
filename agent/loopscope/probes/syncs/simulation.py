"""The simulation: tensors on the CPU count as if they were on CUDA, for machines that have none.

What would wait inside an operator is seen by a dispatch mode, which costs about 10 us an operator: for tests and for
looking at a loop, not for production.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ...guard import Site
from ...hooks import HookSet, out_of_dynamo
from ...sites import user_frame
from ..modes import is_stack_ours, leave, leave_soon
from ..operators import run
from .calls import is_for_device, source_of_call
from .ledger import LEDGER
from .waiting import COPYING, EMPTY, INDEXING, LIFTING, PACKING, kind_of_operator

__all__ = ["Simulation"]

_DEVICE = "cpu"
_of_thread = threading.local()
_FINDS_LENGTHS = "_VF._pad_packed_sequence("
"""Puts the lengths of padded sequences into an empty tensor of the host."""
_MACHINERY = (
    *(os.path.join(torch.__path__[0], name) for name in ("_dynamo", "_compile.py", "_ops.py")),  # noqa: PTH118 - as text
    *(os.path.dirname(own.__code__.co_filename) for own in (run, out_of_dynamo)),  # noqa: PTH120 - as code objects have it
)
"""Lies between a line and the modes that see its operators."""


class Simulation(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Notes the operators that would wait, for as long as anyone wants it: one for all agents of a thread.

    A mode in the middle of the stack, or on another thread's, cannot be taken out: it then passes through, and leaves
    at the next operator, once it is on top.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self._pid = os.getpid()
        self._users: set[object] = set()
        self._is_entered = False
        self._site: Site | None = None
        self._numbers: dict[int, weakref.ref[Tensor]] = {}
        """Tensors by identity that Python numbers have just become, which are on the host with CUDA as well."""

    @classmethod
    def of_thread(cls) -> Simulation:
        """Return the one of the current thread."""
        mode: Simulation | None = getattr(_of_thread, "mode", None)
        if mode is None:
            mode = _of_thread.mode = cls()
        return mode

    def retain(self, user: object, site: Site) -> None:
        """Put it on the stack, if it is not there yet and the stack may be changed; on its thread."""
        self._users.add(user)
        self._site = site
        if not self._is_entered and is_stack_ours():
            self._is_entered = True
            self.__enter__()  # type: ignore[no-untyped-call]  # torch

    def release(self, user: object) -> None:
        """Take it off when nobody wants it any longer: at once if it is on top, on its own thread, else soon."""
        self._users.discard(user)
        if not self._users and self._is_entered and leave(self):
            self._note_left()

    def _note_left(self) -> None:
        self._is_entered = False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Have compiled functions run as compiled."""
        return True

    @staticmethod
    def replace(hooks: HookSet) -> None:
        """Count what no operator shows on the CPU: the moves to the host, which do nothing there."""
        hooks.replace(Tensor, "cpu", _wrap_cpu)
        hooks.replace(Tensor, "to", _wrap_to)
        hooks.replace(torch.nn.functional, "one_hot", _wrap_one_hot)

    @out_of_dynamo
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = {} if kwargs is None else kwargs
        if not self._users and self._site is not None:
            leave_soon(self, self._site, is_wanted=lambda: bool(self._users), left=self._note_left)
        result = run(function, args, keywords)
        if self._users and threading.get_ident() not in LEDGER.busy and os.getpid() == self._pid:
            self._look(function, args, keywords, result)
        return result

    def _look(self, function: Any, args: Sequence[Any], keywords: Mapping[str, Any], result: Any) -> None:
        first = function in INDEXING or function in PACKING
        is_on_host = bool(LEDGER.host) and self._is_on_host(args[:1] if first else args)
        if function in LIFTING and isinstance(result, Tensor) and result.numel() == 1:
            _remember(self._numbers, result)
        if function in COPYING:
            kind = _kind_of_copy(args, keywords)
        else:
            kind = None if is_on_host else kind_of_operator(function, args, keywords, self._is_of_host)
        if kind is not None:
            LEDGER.note(kind, _DEVICE, 0, sys._getframe(2))
        if function in PACKING:
            _take_for_host(result[1])
        if function not in COPYING and (is_on_host or _is_made_on_host(function, keywords, sys._getframe(2))):
            for output in result if isinstance(result, tuple | list) else (result,):
                _take_for_host(output)

    def _is_of_host(self, value: Any) -> bool:
        return id(value) in self._numbers or id(value) in LEDGER.host

    def _is_on_host(self, args: Sequence[Any]) -> bool:
        """Whether the operator runs on the host: with CUDA only numbers of the host go together with the device's."""
        tensors = [
            tensor
            for arg in args
            for tensor in (arg if isinstance(arg, tuple | list) else (arg,))
            if isinstance(tensor, Tensor)
        ]
        is_host = [id(tensor) in LEDGER.host for tensor in tensors]
        if any(host and tensor.dim() for host, tensor in zip(is_host, tensors, strict=True)):
            return True
        return any(is_host) and all(
            host or id(tensor) in self._numbers for host, tensor in zip(is_host, tensors, strict=True)
        )


def _kind_of_copy(args: Sequence[Any], keywords: Mapping[str, Any]) -> str | None:
    if keywords.get("non_blocking") or args[2:3] == (True,):
        return None
    is_host = [id(tensor) in LEDGER.host for tensor in args[:2]]
    return "copy" if is_host[0] != is_host[1] else None


def _is_made_on_host(function: Any, keywords: Mapping[str, Any], frame: FrameType | None) -> bool:
    """Whether the operator makes a tensor that the nearest line of Python, be it PyTorch's, wants on the host."""
    if function not in LIFTING and "device" not in keywords:
        return False
    while frame is not None and frame.f_code.co_filename.startswith(_MACHINERY):
        frame = frame.f_back
    if frame is None:
        return False
    is_length = function in EMPTY and (source_of_call(frame) or "").startswith(_FINDS_LENGTHS)
    return is_length or is_for_device(frame, _DEVICE)


def _take_for_host(value: Any) -> None:
    if isinstance(value, Tensor):
        _remember(LEDGER.host, value)


def _remember(tensors: dict[int, weakref.ref[Any]], tensor: Tensor) -> None:
    identity = id(tensor)
    # no function of Python's, which dynamo would take for a frame where the tensor dies between two graphs
    tensors[identity] = weakref.ref(tensor, functools.partial(tensors.pop, identity))


def _moved(source: Tensor, result: Tensor) -> Tensor:
    """Return the tensor that stands for the copy on the host."""
    result = _other(source, result)
    _take_for_host(result)
    return result


def _other(source: Tensor, result: Tensor) -> Tensor:
    """Return a tensor that stands for the copy: another object, as on CUDA, where that is safe; the device's."""
    if result is source and not source.requires_grad:
        result = source.detach()
    elif result is source and not source.is_leaf and torch.is_grad_enabled():
        result = source.view_as(source)
    LEDGER.host.pop(id(result), None)  # a view of what is on the host
    return result


def _wrap_cpu(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(self, *args, **kwargs)
        result = original(self, *args, **kwargs)
        return _moved(self, result) if self.device.type == _DEVICE and _DEVICE in LEDGER.device_types else result

    return wrapper


def _wrap_to(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(self, *args, **kwargs)
        result = original(self, *args, **kwargs)
        target = args[0] if args else kwargs.get("device")
        if (
            isinstance(target, str | torch.device)
            and str(target) == _DEVICE
            and self.device.type == _DEVICE
            and _DEVICE in LEDGER.device_types
            and threading.get_ident() not in LEDGER.busy
        ):
            is_on_host, to_host = id(self) in LEDGER.host, _is_spelled_out(sys._getframe(1))
            if is_on_host == to_host:
                return _moved(self, result) if to_host else result
            if not (kwargs.get("non_blocking") or True in args[1:2] or True in args[2:3]):
                LEDGER.note("copy", _DEVICE, 0, sys._getframe(1))
            return _moved(self, result) if to_host else _other(self, result)
        return result

    return wrapper


def _is_spelled_out(frame: FrameType | None) -> bool:
    """Whether the call says "cpu" itself: `x.to(device)` is the move to the device, whatever that is here."""
    own = user_frame(frame)
    return own is not None and is_for_device(own, _DEVICE)


def _wrap_one_hot(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(tensor: Tensor, num_classes: int = -1) -> Any:
        if torch.compiler.is_compiling():
            return original(tensor, num_classes)
        thread = threading.get_ident()
        if thread in LEDGER.busy or _DEVICE not in LEDGER.device_types:
            return original(tensor, num_classes)
        LEDGER.busy.add(thread)  # it checks its values on the CPU only
        try:
            result = original(tensor, num_classes)
        finally:
            LEDGER.busy.discard(thread)
        if num_classes == -1 and id(tensor) not in LEDGER.host:
            LEDGER.note("operator", _DEVICE, 0, sys._getframe(1))
        return result

    return wrapper
