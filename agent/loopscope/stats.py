"""Pure tensor functions: norms, largest magnitudes and samples of many tensors, without a host sync.

Shape legend: N tensors of one device, W norm pieces (a large tensor has several), S sampled elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["NormPlan", "SamplePlan", "count_nonfinite", "dense_values", "exact_norm", "is_readable"]

_SMALL_ELEMENTS = 16_384
"""Tensors up to this size are stacked with others of their shape: one call for all, where a loop pays 1.6 us each."""
_CHUNK_ELEMENTS = 2**18
"""Larger CPU tensors are cut: float32 norms lose 1e-5 at 1 M elements and 0.3 % at 39 M, chunks of this size 2e-6."""
_MIN_BUCKET = 3
_FEW_TENSORS = 8
"""Up to so many CPU tensors one call each, right into its place, is quicker than one for all and one to gather them."""
_dtype_of = attrgetter("dtype")


def is_readable(gradient: Tensor) -> bool:
    """Whether the values can be had without a host sync: coalescing on CUDA waits for the device."""
    return not (gradient.is_sparse and gradient.device.type != "cpu" and not gradient.is_coalesced())


def dense_values(gradient: Tensor) -> Tensor:
    """Return the stored values of any gradient as a dense real tensor that shares memory where it can.

    A DTensor gives its local shard without a collective, a sparse tensor its coalesced values (duplicates summed, as
    the optimizer sums them), a complex tensor its real and imaginary parts: each with the same L2 norm.
    """
    local = getattr(gradient, "_local_tensor", None)  # DTensor; to_local() would add an op, full_tensor() a collective
    values = gradient if local is None else local
    if values.is_sparse:
        values = values.coalesce()._values()
    elif values.layout is not torch.strided:
        values = values.values()
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


def exact_norm(values: Tensor) -> Tensor:
    """Return the L2 norm in float64, shape []: for values whose squares leave the range of float32."""
    norm: Tensor = torch.linalg.vector_norm(values, 2, dtype=torch.float64)
    return norm


def count_nonfinite(values: Tensor) -> Tensor:
    """Return the number of NaN and infinite elements, a tensor of shape []."""
    return torch.isfinite(values).logical_not_().sum()


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Small tensors of one shape and dtype, handled as one matrix [n, elements]."""

    indices: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)

    def matrix(self, tensors: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(itemgetter(*self.indices)(tensors))
        return stacked.reshape(len(self.indices), self.num_elements)  # a stack of channels-last tensors has no view


def _split(tensors: Sequence[Tensor], left_out: Sequence[int] = ()) -> tuple[list[_Bucket], list[int]]:
    """Return the buckets, each at most `_CHUNK_ELEMENTS` elements, and the indices of the tensors in none."""
    groups: dict[tuple[tuple[int, ...], torch.dtype], list[int]] = {}
    for index, tensor in enumerate(tensors):
        if index in left_out:
            continue
        groups.setdefault((tuple(tensor.shape), tensor.dtype), []).append(index)
    buckets, singles = [], []
    for (shape, dtype), indices in groups.items():
        num_elements = math.prod(shape)
        if num_elements == 0:
            continue  # an empty shard has no norm, and the infinity norm of nothing raises
        if num_elements > _SMALL_ELEMENTS or len(indices) < _MIN_BUCKET:
            singles += indices
            continue
        size = max(_MIN_BUCKET, _CHUNK_ELEMENTS // num_elements)
        buckets += [_Bucket(tuple(indices[i : i + size]), shape, dtype) for i in range(0, len(indices), size)]
    return buckets, sorted(singles)


class NormPlan:
    """How the exact L2 norms of N tensors on one device are taken: stacked small ones, chunked large ones.

    The plan holds for tensors of the same shapes and dtypes; `fits` tells. `irregular` tensors (sparse values) may
    change their shape from step to step and are taken one by one. Cost: every element is read once.
    """

    def __init__(self, tensors: Sequence[Tensor], irregular: Sequence[int] = ()) -> None:
        self._irregular = tuple(irregular)
        self._key: list[tuple[torch.Size, torch.dtype] | None] = [(tensor.shape, tensor.dtype) for tensor in tensors]
        for index in self._irregular:
            self._key[index] = None
        self._buckets, self._singles = _split(tensors, self._irregular)
        is_double = any(
            tensor.dtype is torch.float64 or tensor.is_cuda for tensor in tensors
        )  # on CUDA it costs nothing
        self.dtype = torch.float64 if is_double else torch.float32
        owners: list[int] = [index for bucket in self._buckets for index in bucket.indices]
        for index in self._singles:
            owners += [index] * _num_chunks(tensors[index])
        self._num_single_pieces = len(owners) - sum(len(bucket.indices) for bucket in self._buckets)
        is_plain = all(tensors[index].dtype is self.dtype for index in self._singles)
        self._foreach_dtype = () if is_plain else (self.dtype,)  # private argument, since torch 2.4
        owners += self._irregular
        self.has_few = (
            self._num_single_pieces == len(owners) == len(tensors) <= _FEW_TENSORS
            and is_plain
            and all(tensor.device.type == "cpu" for tensor in tensors)
        )
        """Whether each tensor is one piece, and `write` may be given the elements of its target."""
        self.owner_W: npt.NDArray[np.int64] = np.array(owners, dtype=np.int64)
        """[W] index of the tensor that each piece belongs to."""

    @property
    def width(self) -> int:
        """Number of pieces W."""
        return len(self.owner_W)

    def fits(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the plan was made for tensors like these."""
        return len(tensors) == len(self._key) and all(
            key is None or (tensor.shape == key[0] and tensor.dtype is key[1])
            for tensor, key in zip(tensors, self._key, strict=True)
        )

    def write(self, tensors: list[Tensor], out_W: Tensor, elements: Sequence[Tensor] = ()) -> None:
        """Write the L2 norm of each piece, accumulated in float32 or better, to `out_W` (shape [W], `self.dtype`).

        `elements`, where `has_few`, are those of `out_W` (each of shape []): the same numbers, a quarter sooner.
        """
        if elements and self.has_few:
            for tensor, element in zip(tensors, elements, strict=True):
                torch.linalg.vector_norm(tensor, 2, out=element)
            return
        offset = 0
        for bucket in self._buckets:
            end = offset + len(bucket.indices)
            matrix = bucket.matrix(tensors)
            if bucket.dtype is self.dtype:
                torch.linalg.vector_norm(matrix, 2, dim=1, out=out_W[offset:end])
            else:
                out_W[offset:end].copy_(torch.linalg.vector_norm(matrix, 2, dim=1, dtype=self.dtype))
            offset = end
        if self._singles:
            end = offset + self._num_single_pieces
            norms = torch._foreach_norm(self._single_pieces(tensors), 2.0, *self._foreach_dtype)
            if set(map(_dtype_of, norms)) != {self.dtype}:
                raise TypeError("the tensors have another dtype than the plan")  # model.to(dtype) keeps the parameters
            torch.stack(norms, out=out_W if end - offset == self.width else out_W[offset:end])
            offset = end
        for index in self._irregular:
            out_W[offset].copy_(exact_norm(tensors[index]), non_blocking=True)
            offset += 1

    def _single_pieces(self, tensors: list[Tensor]) -> list[Tensor]:
        if self._num_single_pieces == len(tensors):
            return tensors  # none is stacked, none is cut
        return [piece for index in self._singles for piece in _chunks(tensors[index])]


class SamplePlan:
    """Which elements of N tensors a sample reads: all of a small one, every s-th of a large one.

    The stride s is coprime to the last dimension, so that it does not walk down the same columns again and again
    (a stride that divides it saw 0.3 % of the columns and erred by 17 % in the median; coprime 2 %).
    """

    def __init__(self, tensors: Sequence[Tensor], max_elements: int) -> None:
        self._buckets, self._singles = _split(tensors)
        self._strides = [_stride(bucket.shape, max_elements) for bucket in self._buckets]
        self._strides += [_stride(tuple(tensors[index].shape), max_elements) for index in self._singles]
        owners: list[npt.NDArray[np.int64]] = []
        for bucket, stride in zip(self._buckets, self._strides, strict=False):
            owners.append(np.repeat(np.array(bucket.indices), -(-bucket.num_elements // stride)))
        for index, stride in zip(self._singles, self._strides[len(self._buckets) :], strict=True):
            owners.append(np.full(-(-tensors[index].numel() // stride), index))
        self.owner_S: npt.NDArray[np.int64] = (
            np.concatenate(owners).astype(np.int64) if owners else np.zeros(0, np.int64)
        )
        """[S] index of the tensor that each sampled element belongs to."""
        self.order_N: npt.NDArray[np.int64] = np.array(
            [index for bucket in self._buckets for index in bucket.indices] + self._singles, dtype=np.int64
        )
        """[N] index of the tensor that each largest magnitude belongs to; empty tensors are left out."""

    @property
    def width(self) -> int:
        """Number of sampled elements S."""
        return len(self.owner_S)

    def write(self, tensors: Sequence[Tensor], sample_S: Tensor, max_abs_N: Tensor | None = None) -> None:
        """Write the sampled elements to `sample_S` (float32) and, where asked, the exact largest magnitudes."""
        parts: list[Tensor] = []
        largest: list[Tensor] = []
        for bucket, stride in zip(self._buckets, self._strides, strict=False):
            matrix = bucket.matrix(tensors)
            parts.append(matrix[:, ::stride].reshape(-1))
            if max_abs_N is not None:
                largest.append(matrix.abs().amax(dim=1))  # aminmax by rows is not vectorized: 170 us against 9
        for index, stride in zip(self._singles, self._strides[len(self._buckets) :], strict=True):
            parts.append(_flat(tensors[index])[::stride])
            if max_abs_N is not None:
                low, high = torch.aminmax(tensors[index])
                largest.append(torch.maximum(-low, high).view(1))
        if parts:
            torch.cat(parts, out=sample_S)
        if max_abs_N is not None and largest:
            torch.cat(largest, out=max_abs_N)


def _stride(shape: tuple[int, ...], max_elements: int) -> int:
    stride = max(1, -(-math.prod(shape) // max_elements))
    last = shape[-1] if shape else 1
    while stride > 1 and math.gcd(stride, last) != 1:
        stride += 1
    return stride


def _num_chunks(tensor: Tensor) -> int:
    is_cut = tensor.device.type == "cpu" and tensor.numel() > _CHUNK_ELEMENTS
    return -(-tensor.numel() // _CHUNK_ELEMENTS) if is_cut else 1


def _chunks(tensor: Tensor) -> Sequence[Tensor]:
    if tensor.device.type != "cpu" or tensor.numel() <= _CHUNK_ELEMENTS:
        return (tensor,)
    return torch.split(_flat(tensor), _CHUNK_ELEMENTS)


def _flat(tensor: Tensor) -> Tensor:
    """Return the elements as one dimension, in memory order where the tensor is dense (channels last, transposed)."""
    if tensor.is_contiguous():
        return tensor.view(-1)
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda dim: -strides[dim])
    return tensor.permute(order).reshape(-1).contiguous()  # sums over strided elements lose 2e-5
