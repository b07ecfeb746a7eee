"""One pass over many CUDA tensors: norm, largest magnitude, zeros, non-finite elements and sum of each, in two kernels.

Tables of pointers and chunks tell each program what to read; partial results are reduced in a fixed order, without
atomics, so that the numbers are the same at every run. Squares are summed in float64: no overflow, no underflow.

Shape legend: N tensors, C chunks, K statistics.
"""

from __future__ import annotations

import functools
import operator
import threading
from collections.abc import Sequence
from subprocess import SubprocessError

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.errors import TritonError

__all__ = ["STATISTICS", "TritonPlan", "is_supported"]

STATISTICS = ("norm", "max_abs", "num_zero", "num_nonfinite", "sum")
"""Columns that `TritonPlan.write` fills, one number a tensor."""
_NUM_STATISTICS = 8  # a power of two, so that a row of partial results is aligned
_CHUNK = 16_384
_BLOCK = 2_048
_REDUCE_BLOCK = 64
_ALIGNMENT = 16
"""Bytes: views into a DDP bucket may start anywhere, and are then left to the foreach norms."""
_COMPILER_FAULTS = (RuntimeError, OSError, ValueError, TypeError, SubprocessError, TritonError)
_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _chunk_kernel(
    pointers, counts, chunk_tensor, chunk_offset, partial, TYPE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    tensor = tl.load(chunk_tensor + program)
    offset = tl.load(chunk_offset + program)
    count = tl.load(counts + tensor)
    base = tl.multiple_of(tl.load(pointers + tensor).to(tl.pointer_type(TYPE)), 16)  # the host has checked
    offset = tl.multiple_of(offset, 16)
    lane = tl.arange(0, BLOCK)
    squares = tl.zeros([BLOCK], tl.float64)
    total = tl.zeros([BLOCK], tl.float64)
    largest = tl.zeros([BLOCK], tl.float32)
    zeros = tl.zeros([BLOCK], tl.int32)
    nonfinite = tl.zeros([BLOCK], tl.int32)
    if offset + CHUNK <= count:  # a full chunk needs no mask, so that it is read 16 bytes at a time
        for start in range(0, CHUNK, BLOCK):
            value = tl.load(base + offset + start + lane).to(tl.float32)
            magnitude = tl.abs(value)
            is_finite = magnitude <= 3.4028234663852886e38
            exact = tl.where(is_finite, value, 0.0).to(tl.float64)
            squares += exact * exact
            total += exact
            largest = tl.maximum(largest, tl.where(is_finite, magnitude, 0.0))
            zeros += (value == 0.0).to(tl.int32)
            nonfinite += (is_finite == 0).to(tl.int32)
    else:
        for start in range(0, CHUNK, BLOCK):
            index = offset + start + lane
            is_here = index < count
            value = tl.load(base + index, mask=is_here, other=1.0).to(tl.float32)
            magnitude = tl.abs(value)
            is_finite = magnitude <= 3.4028234663852886e38
            counted = is_here & is_finite
            exact = tl.where(counted, value, 0.0).to(tl.float64)
            squares += exact * exact
            total += exact
            largest = tl.maximum(largest, tl.where(counted, magnitude, 0.0))
            zeros += ((value == 0.0) & is_here).to(tl.int32)
            nonfinite += ((is_finite == 0) & is_here).to(tl.int32)
    row = partial + program * 8
    tl.store(row + 0, tl.sum(squares, 0))
    tl.store(row + 1, tl.max(largest, 0).to(tl.float64))
    tl.store(row + 2, tl.sum(zeros, 0).to(tl.float64))
    tl.store(row + 3, tl.sum(nonfinite, 0).to(tl.float64))
    tl.store(row + 4, tl.sum(total, 0))


@triton.jit(do_not_specialize=["num_tensors"])
def _reduce_kernel(partial, members, first_chunk, num_chunks, out, num_tensors, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    tensor = tl.load(members + program)
    first = tl.load(first_chunk + program)
    count = tl.load(num_chunks + program)
    lane = tl.arange(0, BLOCK)
    squares = tl.zeros([BLOCK], tl.float64)
    largest = tl.zeros([BLOCK], tl.float64)
    zeros = tl.zeros([BLOCK], tl.float64)
    nonfinite = tl.zeros([BLOCK], tl.float64)
    total = tl.zeros([BLOCK], tl.float64)
    for start in range(0, count, BLOCK):
        index = start + lane
        is_here = index < count
        row = partial + (first + index) * 8
        squares += tl.load(row + 0, mask=is_here, other=0.0)
        largest = tl.maximum(largest, tl.load(row + 1, mask=is_here, other=0.0))
        zeros += tl.load(row + 2, mask=is_here, other=0.0)
        nonfinite += tl.load(row + 3, mask=is_here, other=0.0)
        total += tl.load(row + 4, mask=is_here, other=0.0)
    num_bad = tl.sum(nonfinite, 0)
    is_good = num_bad == 0.0
    tl.store(out + 0 * num_tensors + tensor, tl.where(is_good, tl.sqrt(tl.sum(squares, 0)), float("nan")))
    tl.store(out + 1 * num_tensors + tensor, tl.where(is_good, tl.max(largest, 0), float("nan")))
    tl.store(out + 2 * num_tensors + tensor, tl.sum(zeros, 0))
    tl.store(out + 3 * num_tensors + tensor, num_bad)
    tl.store(out + 4 * num_tensors + tensor, tl.where(is_good, tl.sum(total, 0), float("nan")))


class Compilation:
    """Compiles the kernels of one dtype on a thread of its own: the first steps must not wait for the compiler."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self.is_done = False
        self.error: str | None = None
        threading.Thread(target=self._run, name="loopscope-triton", daemon=True).start()

    def _run(self) -> None:
        try:
            int32, int64, float64 = torch.int32, torch.int64, torch.float64
            constants = {"TYPE": _TYPES[self._dtype], "CHUNK": _CHUNK, "BLOCK": _BLOCK}
            _chunk_kernel.warmup(int64, int64, int32, int64, float64, grid=(1,), **constants)
            _reduce_kernel.warmup(float64, int32, int32, int32, float64, 1_000, grid=(1,), BLOCK=_REDUCE_BLOCK)
            self.is_done = True
        except _COMPILER_FAULTS as error:  # no compiler here: foreach norms go on
            self.error = f"{type(error).__name__}: {error}"


def is_supported(tensors: Sequence[Tensor]) -> bool:
    """Whether one pass can read these: CUDA, real, of one of three dtypes, dense in memory, and not empty."""
    return bool(tensors) and all(
        tensor.is_cuda and type(tensor) is Tensor and tensor.dtype in _TYPES and tensor.numel() and _is_dense(tensor)
        for tensor in tensors
    )


class TritonPlan:
    """The tables for N tensors of given sizes; pointers are sent anew at every step, since gradients move."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._device = tensors[0].device
        self._num_tensors = len(tensors)
        self._groups = [_Group(dtype, tensors) for dtype in dict.fromkeys(tensor.dtype for tensor in tensors)]
        self._compilations = [Compilation(group.dtype) for group in self._groups]
        self._pinned: dict[int, Tensor] = {}
        self._sizes = [tensor.nbytes for tensor in tensors]
        self._strides = [tensor.stride() for tensor in tensors]
        self._kinds = [(tensor.get_device(), tensor.dtype) for tensor in tensors]

    @property
    def width(self) -> int:
        """Numbers that `write` fills: K statistics of N tensors."""
        return len(STATISTICS) * self._num_tensors

    @property
    def is_ready(self) -> bool:
        """Whether the kernels are compiled."""
        return all(compilation.is_done for compilation in self._compilations)

    def write(self, tensors: Sequence[Tensor], out_KN: Tensor, slot: int) -> bool:
        """Write K rows of N numbers to `out_KN` (float64, contiguous); False where an address is not aligned to 16.

        `slot` names the pinned pointer table to use: it may be written again once the slot has come back. Raises
        RuntimeError before anything is read where the tensors are not those that the plan was made for.
        """
        if (
            [tensor.nbytes for tensor in tensors] != self._sizes
            or [tensor.stride() for tensor in tensors] != self._strides
            or [(tensor.get_device(), tensor.dtype) for tensor in tensors] != self._kinds
        ):
            raise RuntimeError("the gradients have another place or layout in memory than the plan was made for")
        addresses = [tensor.data_ptr() for tensor in tensors]
        if functools.reduce(operator.or_, addresses) % _ALIGNMENT:
            return False
        pinned = self._pinned.get(slot)
        if pinned is None:
            pinned = self._pinned[slot] = _pinned(self._num_tensors)
        pinned.numpy()[:] = addresses  # host sync: none, pinned memory of ours
        pointers = pinned.to(self._device, non_blocking=True)
        for group in self._groups:
            group.launch(pointers, out_KN, self._num_tensors)
        return True


class _Group:
    """The tensors of one dtype."""

    def __init__(self, dtype: torch.dtype, tensors: Sequence[Tensor]) -> None:
        self.dtype = dtype
        device = tensors[0].device
        members = [index for index, tensor in enumerate(tensors) if tensor.dtype is dtype]
        chunks = {index: -(-tensors[index].numel() // _CHUNK) for index in members}
        first = 0
        chunk_tensor: list[int] = []
        chunk_offset: list[int] = []
        firsts = []
        for index in members:
            firsts.append(first)
            first += chunks[index]
            chunk_tensor += [index] * chunks[index]
            chunk_offset += [number * _CHUNK for number in range(chunks[index])]
        self._num_members, self._num_chunks = len(members), len(chunk_tensor)
        self._counts = _table([tensor.numel() for tensor in tensors], torch.int64, device)
        self._chunk_tensor = _table(chunk_tensor, torch.int32, device)
        self._chunk_offset = _table(chunk_offset, torch.int64, device)
        self._members = _table(members, torch.int32, device)
        self._first_chunk = _table(firsts, torch.int32, device)
        self._chunks_each = _table([chunks[index] for index in members], torch.int32, device)

    def launch(self, pointers: Tensor, out_KN: Tensor, num_tensors: int) -> None:
        partial = torch.empty(self._num_chunks * _NUM_STATISTICS, dtype=torch.float64, device=pointers.device)
        with torch.cuda.device(pointers.device):
            _chunk_kernel[(self._num_chunks,)](
                pointers, self._counts, self._chunk_tensor, self._chunk_offset, partial,
                TYPE=_TYPES[self.dtype], CHUNK=_CHUNK, BLOCK=_BLOCK,
            )  # fmt: skip
            _reduce_kernel[(self._num_members,)](
                partial, self._members, self._first_chunk, self._chunks_each, out_KN, num_tensors, BLOCK=_REDUCE_BLOCK
            )


def _pinned(num_tensors: int) -> Tensor:
    # The device is named, as elsewhere here: the user may have called torch.set_default_device("cuda").
    return torch.empty(num_tensors, dtype=torch.int64, device="cpu", pin_memory=True)


def _table(values: list[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device="cpu", pin_memory=True).to(device, non_blocking=True)


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill their memory without gaps or overlaps, in whatever order."""
    expected = 1
    for size, stride in sorted(zip(tensor.shape, tensor.stride(), strict=True), key=lambda pair: pair[1]):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True
