"""Regions: whose saved-tensor hooks are on, and which number the next node has; private parts of torch."""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any

import torch

from .places import is_running

__all__ = ["CHECKPOINTED", "is_packing", "next_sequence", "region", "run_of_region"]

CHECKPOINTED = "checkpoint"


def next_sequence() -> int:
    """Return the number that the next node of this thread will have: while an operator runs, its own is one less."""
    sequence: int = torch._C._autograd._get_sequence_nr()  # private
    return sequence


def region() -> str | None:
    """Return whose saved-tensor hooks are on top, under which PyTorch checks no versions; None where there are none."""
    pack = _pack_hook()
    if pack is None:
        return None
    name: str = getattr(pack, "__qualname__", "saved_tensors_hooks").partition(".")[0]
    if name in {"_checkpoint_hook", "_recomputation_hook"}:
        return CHECKPOINTED
    return name if name == "save_on_cpu" else "saved_tensors_hooks"


def run_of_region() -> tuple[Any, Any] | None:
    """Return what stands for this run of a checkpointed region, and for the call of `checkpoint` that it is a run of.

    None where no such region is on top, or it does not say which call it belongs to.
    """
    pack = _pack_hook() if region() == CHECKPOINTED else None
    function = None if pack is None else inspect.unwrap(pack)
    cells = getattr(function, "__closure__", None) or ()
    names = () if function is None else function.__code__.co_freevars
    values = {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}  # private
    call = values.get("frame")
    if call is None and "target_frame_ref" in values:
        call = values["target_frame_ref"]()
    return None if call is None else (function, call)


def is_packing(frame: FrameType) -> bool:
    """Whether an operator is part of a hook that saves: it comes between a node and the node's own operator."""
    pack = _pack_hook()
    code = None if pack is None else getattr(inspect.unwrap(pack), "__code__", None)
    return code is not None and is_running(frame, code)


def _pack_hook() -> Any:
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # private
    hooks = None if top is None else top(True)
    return None if hooks is None else hooks[0]
