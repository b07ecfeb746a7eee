"""Evidence: whether a write has changed what backward computes, found by running its operator on what was there before.

Only for what PyTorch itself does not check, so hardly ever. The tensors made here are dropped at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch import Tensor

from ..operators import Operation
from .history import Layout, Write

__all__ = ["can_look", "differs", "is_changed", "makes_a_difference", "overlaps"]

_TOLERANCE = 4
_MAX_ELEMENTS = 2**24


def can_look(tensor: Tensor) -> bool:
    """Whether the values of a tensor may be copied and compared: a plain one, and no CUDA graph is being captured."""
    if type(tensor) not in {Tensor, torch.nn.Parameter, torch.nn.Buffer} or tensor.layout is not torch.strided:
        return False
    if tensor.device.type == "meta" or tensor.is_inference() or tensor.is_conj() or tensor.is_neg():
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def makes_a_difference(operation: Operation, tensor: Tensor, write: Write) -> bool:
    """Whether the operator gives something else than it would have before the write to the storage of `tensor`.

    True as well where nothing was kept to compare with.
    """
    if write.snapshot is None or not can_look(tensor):
        return True
    with torch._C._DisableTorchDispatch(), torch.no_grad():  # private
        before = _as_before(tensor, write.snapshot)
        if before is None:
            return True
        if not differs(before, tensor.detach()):
            return False
        if not operation.traits.is_pure:
            return True
        storage = tensor.untyped_storage()._cdata

        def replaced(value: Any) -> Any:
            if isinstance(value, Tensor) and value.untyped_storage()._cdata == storage:
                return _as_before(value, write.snapshot)
            return value.detach() if isinstance(value, Tensor) else value

        function, _, args, keywords = operation
        now = function(*args, **keywords)
        then = function(
            *(_each(value, replaced) for value in args),
            **{name: _each(value, replaced) for name, value in keywords.items()},
        )
        pairs = zip(_flat(now), _flat(then), strict=True)
        return any(differs(one, other) for one, other in pairs)


def overlaps(write: Write, tensor: Tensor) -> bool:
    """Whether a write and a tensor on the same storage share an element: the chunks of a tensor share none."""
    wrote, reads = write.layout, Layout.of(tensor)
    if wrote is None or wrote.item_bytes != reads.item_bytes or 0 in reads.size or 0 in wrote.size:
        return wrote is None or (0 not in reads.size and 0 not in wrote.size)
    if wrote.end <= reads.offset or reads.end <= wrote.offset:
        return False
    num_elements = max(wrote.end, reads.end)
    if num_elements > _MAX_ELEMENTS or wrote == reads:
        return True
    is_written = np.zeros(num_elements, dtype=bool)  # no tensor: reading one would count as a sync of the user's
    as_strided(is_written[wrote.offset :], wrote.size, wrote.stride)[...] = True
    return bool(as_strided(is_written[reads.offset :], reads.size, reads.stride).any())


def differs(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape differ by more than rounding; NaN is the same as NaN."""
    if one.shape != other.shape:
        return True
    if not (one.is_floating_point() or one.is_complex()):
        return not torch.equal(one, other)  # host sync: armed steps only, where PyTorch checks nothing
    eps = torch.finfo(one.dtype).eps * _TOLERANCE
    return not torch.allclose(one, other, rtol=eps, atol=0.0, equal_nan=True)  # host sync: as above


def is_changed(tensor: Tensor, snapshot: Any) -> bool:
    """Whether the storage has other bytes than before; True where nothing was kept to compare with."""
    storage = tensor.untyped_storage()
    if snapshot is None or snapshot.nbytes() != storage.nbytes():
        return True
    with torch._C._DisableTorchDispatch(), torch.no_grad():  # private
        now, then = (torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(each) for each in (storage, snapshot))
        return not torch.equal(now, then)  # host sync: armed steps only, where something was written to


def _as_before(tensor: Tensor, snapshot: Any) -> Tensor | None:
    """Return what `tensor` was, a view of the snapshot; None where the storage has been resized since."""
    if snapshot.nbytes() != tensor.untyped_storage().nbytes():
        return None
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return empty.set_(snapshot, tensor.storage_offset(), tensor.size(), tensor.stride())


def _each(value: Any, change: Any) -> Any:
    return [change(inner) for inner in value] if isinstance(value, list | tuple) else change(value)


def _flat(result: Any) -> list[Tensor]:
    values = result if isinstance(result, list | tuple) else (result,)
    return [value for value in values if isinstance(value, Tensor)]
