"""Layer groups: parameter names to a bounded set of module paths, the values of the label `layer`.

Shape legend: P parameters, in the order of their names.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from itertools import dropwhile, groupby, pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .catalog import MAX_LAYERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .records import Integers

__all__ = ["OTHER", "ROOT", "LayerPlan", "clean_name", "plan_layers"]

ROOT = "(root)"
"""The group of parameters that hang on the root module itself."""
OTHER = "other"
"""The group of what no merging brought within the budget."""

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_MAX_DIGITS = 10
_MAX_DEPTH = 12
"""Components of a module path that tell groups apart; what lies deeper counts to its ancestor."""

_Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """Which layer group each parameter belongs to; groups stand in the order of their first parameter."""

    layers: tuple[str, ...]
    index_P: Integers
    """Index into `layers` of each parameter."""


def clean_name(name: str) -> str:
    """Return the parameter's name in the model as it was written, without what wrappers put into it.

    `torch.compile`, FSDP1 and activation checkpointing add a component anywhere; DDP and DataParallel add `module` in
    front, which may also be a submodule's own name further down and is kept there.
    """
    *path, last = name.split(".")
    path = [component for component in path if component not in _WRAPPERS]
    return ".".join([*dropwhile("module".__eq__, path), last])


def plan_layers(names: Sequence[str], budget: int = MAX_LAYERS) -> LayerPlan:
    """Return at most `budget` layer groups, each parameter in one of them; equal names give equal plans.

    A group is the module path cut after its first number (`transformer.h.11`), or all of it. Over the budget,
    numbered siblings are merged by powers of two (`transformer.h.0-3`), the largest family first; then modules
    into their parent, the deepest first; what is left over is `other`. Cost: 3 to 15 us a name, at attach.
    """
    if budget < 1:
        raise ValueError(f"budget={budget} cannot be used. Allowed: 1 and more. {MAX_LAYERS} is the default.")
    paths_P = [_path(name) for name in names]
    groups = {path: path for path in paths_P}
    for merge in (_merge_siblings, _merge_children, _merge_rest):
        distinct = list(dict.fromkeys(groups.values()))
        if len(distinct) <= budget:
            break
        merged = merge(distinct, budget)
        groups = {path: merged[group] for path, group in groups.items()}
    index = {group: i for i, group in enumerate(dict.fromkeys(groups.values()))}
    index_P = np.array([index[groups[path]] for path in paths_P], dtype=np.int64)
    return LayerPlan(layers=tuple(".".join(group) for group in index), index_P=index_P)


def _path(name: str) -> _Path:
    path = [component for component in clean_name(name).split(".")[:-1] if component][:_MAX_DEPTH]
    depth = next((i for i, component in enumerate(path, 1) if _is_number(component)), len(path))
    return tuple(path[:depth]) or (ROOT,)


def _is_number(component: str) -> bool:
    return component.isascii() and component.isdecimal() and len(component) < _MAX_DIGITS


def _merge_siblings(paths: Sequence[_Path], budget: int) -> Mapping[_Path, _Path]:
    """Merge numbered siblings into aligned blocks; a block is named by its first and last member."""
    families: dict[_Path, list[tuple[int, _Path]]] = {}
    for path in paths:
        if _is_number(path[-1]):
            families.setdefault(path[:-1], []).append((int(path[-1]), path))
    for family in families.values():
        family.sort()
    merged = {path: path for path in paths}
    for parent, bits in _block_bits(families, len(paths) - budget).items():
        for _, members in groupby(families[parent], key=lambda member: member[0] >> bits):
            numbers, block = zip(*members, strict=True)
            first, last = numbers[0], numbers[-1]
            name = block[0] if first == last else (*parent, f"{first}-{last}")
            merged |= dict.fromkeys(block, name)
    return merged


def _block_bits(families: Mapping[_Path, Sequence[tuple[int, _Path]]], excess: int) -> Mapping[_Path, int]:
    """Return the block size of each family to merge, as a power of two, such that `excess` groups go if they can."""
    savings = {
        parent: sorted(Counter((a ^ b).bit_length() for (a, _), (b, _) in pairwise(members)).items(), reverse=True)
        for parent, members in families.items()
    }  # two neighbours share a block of 2**bits as soon as bits reaches the highest bit in which they differ
    largest = [(-len(members), order, parent) for order, (parent, members) in enumerate(families.items())]
    heapq.heapify(largest)
    chosen: dict[_Path, int] = {}
    while excess > 0 and largest:
        size, order, parent = heapq.heappop(largest)
        if savings[parent]:
            chosen[parent], saved = savings[parent].pop()
            excess -= saved
            heapq.heappush(largest, (size + saved, order, parent))
    return chosen


def _merge_children(paths: Sequence[_Path], budget: int) -> Mapping[_Path, _Path]:
    """Merge modules into their parent, the deepest level first and there the largest families first."""
    groups, parents = list(paths), set[_Path]()
    for depth in range(max(map(len, paths)) - 1, 0, -1):
        families = Counter([path[:depth] for path in groups])
        excess = len(groups) - budget
        for parent, size in families.most_common():
            if excess <= 0 or size == 1:
                break
            parents.add(parent)
            excess -= size - 1
        if excess < len(groups) - budget:
            groups = list(dict.fromkeys(path[:depth] if path[:depth] in parents else path for path in groups))
    return {path: _ancestor(path, parents) for path in paths}


def _ancestor(path: _Path, parents: set[_Path]) -> _Path:
    return next((path[:depth] for depth in range(1, len(path)) if path[:depth] in parents), path)


def _merge_rest(paths: Sequence[_Path], budget: int) -> Mapping[_Path, _Path]:
    """Keep the first groups and leave the rest to `other`."""
    return {path: path if i < budget - 1 else (OTHER,) for i, path in enumerate(paths)}
