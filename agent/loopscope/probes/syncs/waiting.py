"""What waits on CUDA: which operators, and with which arguments; the host needs a value, or the size of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["COPYING", "EMPTY", "INDEXING", "LIFTING", "PACKING", "kind_of_operator"]

_aten = torch.ops.aten
_MASKS = (torch.bool, torch.uint8)


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
            "_local_scalar_dense", "is_nonzero", "equal", "allclose", "bincount", "_to_sparse", "_coalesce",
            "_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "linalg_eig", "_linalg_eigvals",
        ),
        "operator",
    ),
}  # fmt: skip
"""Operators that wait on CUDA whatever their arguments are."""
_NUMBERS = {
    **dict.fromkeys(_operators("masked_fill", "masked_fill_"), (2,)),
    **dict.fromkeys(_operators("index_fill", "index_fill_"), (3,)),
    **dict.fromkeys(_operators("linspace", "logspace"), (0, 1)),
    **dict.fromkeys(_operators("_ctc_loss"), (2, 3)),
    **dict.fromkeys(_operators("repeat_interleave"), (-1,)),
}
"""Operators that take these arguments to the host where they are tensors."""
INDEXING = _operators("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put")
COPYING = _operators("copy_")
EMPTY = _operators("empty")
LIFTING = _operators("lift_fresh")
"""Make tensors of what is Python's."""
PACKING = _operators("_pack_padded_sequence")
"""Its second result, the batch sizes, is on the host, and its first one where the data was."""
_DRAWING = frozenset(getattr(_aten.normal, name) for name in ("float_Tensor", "Tensor_Tensor"))
"""Check the standard deviations."""
_CHOOSING = _operators("multinomial") if torch.__version__ < "2.6" else frozenset()
"""Checked the probabilities, but for many draws with replacement, before pytorch#134818."""
_BINNING = _operators("histc")
_FINDING = frozenset({_aten.isin.Tensor_Tensor})


def kind_of_operator(
    function: Any, args: Sequence[Any], keywords: Mapping[str, Any], is_of_host: Callable[[Any], bool]
) -> str | None:
    """Return how the operator would wait on CUDA, None where it would not.

    `is_of_host` says of a tensor whether it would be on the host. Copies that do wait are left to who knows that of
    both sides.
    """
    kind = _KINDS.get(function)
    if kind is not None:
        return kind
    if function in INDEXING:
        return "mask" if _is_masked(args[1]) and not _is_fill(args, keywords, is_of_host) else None
    return "operator" if _waits(function, args, keywords, is_of_host) else None


def _waits(function: Any, args: Sequence[Any], keywords: Mapping[str, Any], is_of_host: Callable[[Any], bool]) -> bool:
    if function in _NUMBERS:
        numbers = [args[position] for position in _NUMBERS[function] if position < len(args)]
        is_known = keywords.get("output_size") is not None
        return not is_known and any(isinstance(number, Tensor) and not is_of_host(number) for number in numbers)
    if function in _CHOOSING:
        return args[1] == 1 or not (args[2:3] == (True,) or keywords.get("replacement"))
    if function in _BINNING:  # bins, lowest, highest; it looks for the latter two itself where they are the same
        lowest, highest = (args[i] if i < len(args) else keywords.get(n, 0) for i, n in ((2, "min"), (3, "max")))
        return bool(lowest == highest)
    if function in _FINDING:  # sorts where the second one is large (ATen/native/TensorCompare.cpp)
        return not keywords.get("assume_unique") and args[1].numel() >= int(10 * args[0].numel() ** 0.145)
    return function in _DRAWING


def _is_masked(indices: Sequence[Any]) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in _MASKS for index in indices)


def _is_fill(args: Sequence[Any], keywords: Mapping[str, Any], is_of_host: Callable[[Any], bool]) -> bool:
    """Whether a number is put under a single mask: a masked_fill, which does not wait.

    Of a tensor with one element that holds only on the host (ATen/native/TensorAdvancedIndexingUtils.h).
    """
    values, accumulate = (args[2] if len(args) > 2 else None), (args[3] if len(args) > 3 else False)
    num_indices = sum(isinstance(index, Tensor) for index in args[1])
    is_number = values is not None and is_of_host(values)
    return is_number and num_indices == 1 and not (accumulate or keywords.get("accumulate"))
