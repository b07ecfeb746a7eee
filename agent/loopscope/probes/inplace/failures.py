"""Failures: from PyTorch's error, and the graph that raised it, to the write that it is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd.function import BackwardCFunction

from .graph import nodes_of
from .history import History, Made, Write
from .incidents import Incident

__all__ = ["Complaint", "complaint_of", "find_culprit"]

_TEXT = re.compile(
    r"one of the variables needed for gradient computation has been modified by an inplace operation: "
    r"\[(?P<type>[\w.]+) \[(?P<shape>[\d, ]*)\]\]"
    r"(?:, which is output \d+ of (?P<producer>[\w:]+),)? is at version (?P<now>\d+); expected version (?P<then>\d+)"
)
_VIEW = re.compile(r"Output \d+ of \w+ is a view and .*modified inplace")
"""A saved view of what was written to, one of several that an operator had made at once (chunk, split, unbind)."""
_SAVED = "_saved_"
_DTYPES = {
    "FloatTensor": "float32", "DoubleTensor": "float64", "HalfTensor": "float16", "BFloat16Tensor": "bfloat16",
    "LongTensor": "int64", "IntTensor": "int32", "ShortTensor": "int16", "CharTensor": "int8", "ByteTensor": "uint8",
    "BoolTensor": "bool", "ComplexFloatTensor": "complex64", "ComplexDoubleTensor": "complex128",
}  # fmt: skip


class Complaint(NamedTuple):
    """What PyTorch's text says."""

    text: str
    """The whole of it."""
    dtype: str | None
    shape: tuple[int, ...]
    producer: str | None
    version: int
    expected: int


def complaint_of(error: BaseException | None) -> Complaint | None:
    """Return what the error says of a tensor that was modified, None where it is about something else."""
    if not isinstance(error, RuntimeError):
        return None
    match = _TEXT.search(str(error))
    if match is None:
        return Complaint(str(error), None, (), None, -1, -1) if _VIEW.match(str(error)) else None
    shape = tuple(int(size) for size in match["shape"].split(",") if size.strip())
    dtype = _DTYPES.get(match["type"].rpartition(".")[2])
    return Complaint(str(error), dtype, shape, match["producer"], int(match["now"]), int(match["then"]))


def find_culprit(complaint: Complaint, roots: Sequence[Tensor], history: History) -> Incident | None:
    """Return who wrote and who had saved; None where neither was seen."""
    nodes = [node for node in nodes_of(roots) if (made := history.made.get(node._sequence_nr())) and not made.region]
    nodes.sort(key=lambda node: -node._sequence_nr())  # the engine runs the youngest first
    for node in nodes:
        made = history.made[node._sequence_nr()]
        writes = list(history.writes_after(made))
        if (writes or made.is_function) and _complains(node, complaint):
            write = _best(complaint, writes) or _closest(complaint, history)
            return None if write is None else _incident(write, made)
    write = _closest(complaint, history)
    return None if write is None else _incident(write, _last_use(write, history))


def _complains(node: Any, complaint: Complaint) -> bool:
    """Whether one of the node's saved tensors is the one that PyTorch complains of."""
    names = [name for name in dir(node) if name.startswith(_SAVED)]
    names += ["saved_tensors"] * isinstance(node, BackwardCFunction)
    for name in names:
        try:
            getattr(node, name)
        except RuntimeError as error:
            found = complaint_of(error)
            is_view = complaint.version < 0
            if found is not None and (found == complaint if is_view else found[1:] == complaint[1:]):
                return True
    return False


def _best(complaint: Complaint, writes: Sequence[Write]) -> Write | None:
    """Return the write that took the version past what was expected, else the one that fits best."""
    if not writes:
        return None
    return max(writes, key=lambda write: (_fits(complaint, write), write.version == complaint.expected, -write.time))


def _fits(complaint: Complaint, write: Write) -> int:
    is_dtype = complaint.dtype is None or write.dtype == f"torch.{complaint.dtype}"
    return 2 * is_dtype + (sorted(write.shape) == sorted(complaint.shape))


def _closest(complaint: Complaint, history: History) -> Write | None:
    """Return the write that found the version expected, on a storage that has come to the version complained of."""
    found: list[Write] = []
    for store in history.stores.values():
        versions = [write.version for write in store.writes]
        if complaint.version - 1 in versions:
            found += [write for write in store.writes if write.version == complaint.expected]
    return _best(complaint, found)


def _last_use(write: Write, history: History) -> Made | None:
    """Return the last node before the write that may have saved what it wrote to."""
    for store in history.stores.values():
        if write in store.writes:
            return next((use for use in reversed(store.uses) if use.end < write.time), None)
    return None


def _incident(write: Write, made: Made | None) -> Incident:
    return Incident(
        cause="raised",
        operator=write.operator,
        place=write.place,
        is_leaf=write.is_leaf,
        saved_operator=None if made is None else made.operator,
        saved_place=None if made is None else made.place,
        region=None if made is None else made.region,
    )
