"""The simulation: tensors on the CPU count as if they were on CUDA, for machines that have none.

What would wait inside an operator is seen by a dispatch mode, which costs about 10 us an operator: for tests and for
looking at a loop, not for production.
"""

from __future__ import annotations

import functools
import linecache
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from ...hooks import HookSet, out_of_dynamo
from ...sites import user_frame
from ..operators import run
from .calls import source_of_call
from .ledger import LEDGER

__all__ = ["Simulation"]

_aten = torch.ops.aten
_DEVICE = "cpu"
_of_thread = threading.local()
_SPELLED_OUT = re.compile(r"""["']cpu["']""")
_CHOSEN = re.compile(r"""["'](?:cuda|xpu|mps)\b""")
"""`x.to("cuda" if torch.cuda.is_available() else "cpu")` is the move to the device as well."""


def _operators(*names: str) -> frozenset[Any]:
    """Return all overloads of these operators that this version of torch has."""
    packets = [getattr(_aten, name) for name in names if hasattr(_aten, name)]
    return frozenset(getattr(packet, overload) for packet in packets for overload in packet.overloads())


_KINDS: dict[Any, str] = {
    **dict.fromkeys(_operators("nonzero", "argwhere"), "nonzero"),
    **dict.fromkeys(
        _operators("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"), "unique"
    ),
    **dict.fromkeys(_operators("masked_select"), "masked_select"),
    **dict.fromkeys(
        _operators(
            "_local_scalar_dense", "is_nonzero", "equal", "allclose", "bincount", "_linalg_check_errors", "multinomial"
        ),
        "operator",
    ),
}
"""Operators that wait on CUDA whatever their arguments are."""
_INDEXING = _operators("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put")
_REPEATING = _operators("repeat_interleave")
_COPYING = _operators("copy_")
_DRAWING = frozenset(getattr(_aten.normal, name) for name in ("float_Tensor", "Tensor_Tensor"))
"""Check the standard deviations."""
_LIFTING = _operators("lift_fresh")
_MASKS = (torch.bool, torch.uint8)


class Simulation(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Notes the operators that would wait, for as long as anyone wants it: one for all agents of a thread.

    A mode in the middle of the stack cannot be taken out: it then passes through, until it is on top when it is next
    released.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self._pid = os.getpid()
        self._users: set[object] = set()
        self._is_entered = False
        self._numbers: dict[int, weakref.ref[Tensor]] = {}
        """Tensors by identity that Python numbers have just become, which are on the host with CUDA as well."""

    @classmethod
    def of_thread(cls) -> Simulation:
        """Return the one of the current thread."""
        mode: Simulation | None = getattr(_of_thread, "mode", None)
        if mode is None:
            mode = _of_thread.mode = cls()
        return mode

    def retain(self, user: object) -> None:
        """Put it on the stack, if it is not there yet; on its thread."""
        self._users.add(user)
        if not self._is_entered:
            self._is_entered = True
            self.__enter__()  # type: ignore[no-untyped-call]  # torch

    def release(self, user: object) -> None:
        """Take it off when nobody wants it any longer, if it is on top."""
        self._users.discard(user)
        if not self._users and self._is_entered and _python_dispatch._get_current_dispatch_mode() is self:
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # torch
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
        result = run(function, args, keywords)
        if self._users and threading.get_ident() not in LEDGER.busy and os.getpid() == self._pid:
            self._look(function, args, keywords, result)
        return result

    def _look(self, function: Any, args: Sequence[Any], keywords: Mapping[str, Any], result: Any) -> None:
        is_on_host = bool(LEDGER.host) and self._is_on_host(args[:1] if function in _INDEXING else args)
        if function in _LIFTING and isinstance(result, Tensor) and result.numel() == 1:
            _remember(self._numbers, result)
        kind = _kind(function, args, keywords)
        if kind == "mask" and self._is_fill(args, keywords):
            kind = None
        if kind is not None and (kind == "copy" or not is_on_host):
            LEDGER.note(kind, _DEVICE, 0, sys._getframe(2))
        if is_on_host and function not in _COPYING:
            for output in result if isinstance(result, tuple | list) else (result,):
                _take_for_host(output)

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

    def _is_fill(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
        """Whether a number is put under a single mask: a masked_fill, which does not wait.

        Of a tensor with one element that holds only on the host (ATen/native/TensorAdvancedIndexingUtils.h).
        """
        values, accumulate = (args[2] if len(args) > 2 else None), (args[3] if len(args) > 3 else False)
        num_indices = sum(isinstance(index, Tensor) for index in args[1])
        is_number = id(values) in self._numbers or id(values) in LEDGER.host
        return is_number and num_indices == 1 and not (accumulate or keywords.get("accumulate"))


def _kind(function: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> str | None:
    """Return how the operator would wait, None where it would not."""
    kind = _KINDS.get(function)
    if kind is not None:
        return kind
    if function in _DRAWING:
        return "operator"
    if function in _INDEXING:
        return "mask" if _is_masked(args[1]) else None
    if function in _REPEATING:
        takes_tensor = isinstance(args[-1], Tensor) and keywords.get("output_size") is None
        return "operator" if takes_tensor else None
    if function in _COPYING and not (keywords.get("non_blocking") or args[2:3] == (True,)):
        is_host = [id(tensor) in LEDGER.host for tensor in args[:2]]
        return "copy" if is_host[0] != is_host[1] else None
    return None


def _is_masked(indices: Sequence[Any]) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in _MASKS for index in indices)


def _take_for_host(value: Any) -> None:
    if isinstance(value, Tensor):
        _remember(LEDGER.host, value)


def _remember(tensors: dict[int, weakref.ref[Any]], tensor: Tensor) -> None:
    identity = id(tensor)
    # no function of Python's, which dynamo would take for a frame where the tensor dies between two graphs
    tensors[identity] = weakref.ref(tensor, functools.partial(tensors.pop, identity))


def _moved(source: Tensor, result: Tensor) -> Tensor:
    """Return the tensor that stands for the copy on the host: another object, as on CUDA, where that is safe."""
    if result is source and not source.requires_grad:
        result = source.detach()
    elif result is source and not source.is_leaf and torch.is_grad_enabled():
        result = source.view_as(source)
    _take_for_host(result)
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
            and _is_spelled_out(sys._getframe(1))
        ):
            is_waiting = not (kwargs.get("non_blocking") or True in args[1:2] or True in args[2:3])
            if is_waiting and id(self) not in LEDGER.host:
                LEDGER.note("copy", _DEVICE, 0, sys._getframe(1))
            return _moved(self, result)
        return result

    return wrapper


def _is_spelled_out(frame: FrameType | None) -> bool:
    """Whether the call says "cpu" itself: `x.to(device)` is the move to the device, whatever that is here."""
    own = user_frame(frame)
    if own is None:
        return False
    text = source_of_call(own) or linecache.getline(own.f_code.co_filename, own.f_lineno or 0)
    return bool(_SPELLED_OUT.search(text)) and not _CHOSEN.search(text)


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
