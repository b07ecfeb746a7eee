"""GradientReader: the gradient norms of one optimizer's parameters, read into slots at every step without a sync.

Shape legend: P parameters of the optimizer, N of them on one device with a gradient, W norm pieces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..frames import Layout, Part
from ..readback import Ring, Slot, is_capturing
from ..stats import NormPlan, count_nonfinite, dense_values, exact_norm, is_readable

__all__ = ["GradientReader"]

_gradient_of = attrgetter("grad")
_MAX_SCALARS = 24
_MAX_PLANS = 8
"""Sets of present gradients that are remembered; experts that take turns cost a new plan beyond that."""
_MAX_EXACT_RECHECKS = 20
"""Consecutive non-finite steps whose elements are counted exactly; a run that is NaN for good is only flagged after."""
_RECHECK_INTERVAL = 50
_MAX_TINY_ROWS = 32
"""Parameters with such norms that are looked at again at a step; all of them are where the read is thorough."""
_FEW_PIECES = 64  # up to which Python's own min and sum are faster than numpy's
_SMALLEST_SQUARABLE = 1e-18
"""Norms below this lose their squares to float32's underflow and are taken again in float64."""


@dataclass(slots=True)
class _DevicePlan:
    """The gradients of one device: which they are, how their norms are taken, where they go."""

    index_N: tuple[int, ...]
    layout: Layout
    norms: NormPlan
    special: frozenset[int]
    """Rows of N that need `dense_values`: sparse, complex, DTensor."""
    ring: Ring
    is_everything: bool
    """Whether every gradient is here, as it is: the rows are then the gradients themselves."""
    one_pass: Any = None
    """A TritonPlan on CUDA, None elsewhere."""
    is_zero_W: npt.NDArray[np.bool_] | None = None
    """Pieces that were exactly zero when last looked at thoroughly: a dead layer is not looked at again each step."""
    carry_W: Tensor | None = None
    """Non-finite pieces of the steps that were dropped."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one read brings: parts for the frame, or none where a ring was full."""

    parts: tuple[Part, ...] = ()
    is_dropped: bool = False


class GradientReader:
    """Reads norms, non-finite counts and scalars of one optimizer; keeps plans by which gradients are there.

    Nothing of the loop is kept: no parameter, no gradient, no graph.
    """

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._plans: dict[tuple[object, ...], dict[torch.device, _DevicePlan]] = {}
        self._num_nonfinite_steps = 0

    def forget(self) -> None:
        """Drop all plans: the parameters have changed."""
        self._plans.clear()

    def read(self, parameters: Sequence[Tensor], scalars: Mapping[str, Tensor], *, thorough: bool = False) -> Reading:
        """Read the gradients of `parameters` (P tensors) and `scalars` (each of shape []) into slots.

        `thorough` also looks again at gradients that were zero when last looked at. Never waits for a device, and
        reads nothing during the capture of a CUDA graph.
        """
        if is_capturing():
            return Reading()
        gradients = list(map(_gradient_of, parameters))
        try:
            return self._read(gradients, scalars, thorough)
        except (RuntimeError, TypeError, AttributeError):  # one is None, of another shape, or carries a graph
            self.forget()
            with torch.no_grad():
                return self._read(gradients, scalars, thorough)

    def _read(self, gradients: list[Tensor | None], scalars: Mapping[str, Tensor], thorough: bool) -> Reading:
        plans = self._plans_for(gradients, scalars)
        slots = [plan.ring.acquire() for plan in plans.values()]
        if None in slots:
            for plan in plans.values():
                _carry(plan, _rows(plan, gradients))
            return Reading(is_dropped=True)
        parts: list[Part] = []
        for (device, plan), slot in zip(plans.items(), slots, strict=True):
            assert slot is not None
            here = scalars
            if len(plans) > 1:
                here = {name: scalar for name, scalar in scalars.items() if scalar.device == device}
            part = self._fill(plan, slot, _rows(plan, gradients), here, thorough)
            if slot.is_real:
                parts.append(part)
        return Reading(tuple(parts))

    def _fill(
        self, plan: _DevicePlan, slot: Slot, rows_N: list[Tensor], scalars: Mapping[str, Tensor], thorough: bool
    ) -> Part:
        columns = slot.columns
        one_pass = plan.one_pass
        has_statistics = (
            one_pass is not None and one_pass.is_ready and one_pass.write(rows_N, columns["statistics"], id(slot))
        )
        if not has_statistics:
            plan.norms.write(rows_N, columns["norm_pieces"], slot.elements.get("norm_pieces", ()))
        for target, scalar in zip(slot.elements["scalars"], scalars.values(), strict=False):
            target.copy_(scalar if scalar.dim() == 0 else scalar.detach().reshape(()), non_blocking=True)
        has_carried = plan.carry_W is not None
        if plan.carry_W is not None:
            columns["carried"].copy_(plan.carry_W, non_blocking=True)
            plan.carry_W = None
        rechecked, has_counts = self._recheck(plan, slot, rows_N, thorough)
        slot.commit()
        return Part(
            values=slot,
            layout=plan.layout,
            scalars=tuple(scalars),
            has_counts=has_counts,
            rechecked=rechecked,
            has_carried=has_carried,
            has_statistics=has_statistics,
        )

    def _recheck(
        self, plan: _DevicePlan, slot: Slot, rows_N: list[Tensor], thorough: bool
    ) -> tuple[tuple[int, ...], bool]:
        """On the CPU, where the norms are at hand, look again at what float32 could not hold; exact counts come so."""
        if slot.host is None:
            return (), False
        pieces_W = slot.host["norm_pieces"]
        if not thorough and _is_usual(pieces_W):
            self._num_nonfinite_steps = 0
            return (), True
        is_bad_W = None if np.isfinite(pieces_W).all() else ~np.isfinite(pieces_W)
        self._num_nonfinite_steps = 0 if is_bad_W is None else self._num_nonfinite_steps + 1
        is_run_lost = self._num_nonfinite_steps > _MAX_EXACT_RECHECKS
        if is_run_lost and self._num_nonfinite_steps % _RECHECK_INTERVAL != 0:
            return (), False
        tiny = self._tiny_rows(plan, pieces_W, thorough)
        if is_bad_W is None and not len(tiny):
            return (), True
        bad = np.unique(plan.norms.owner_W[is_bad_W]) if is_bad_W is not None else np.zeros(0, np.int64)
        tiny = np.setdiff1d(tiny, bad)
        for row in bad.tolist():  # host sync: none, a numpy array
            slot.columns["num_nonfinite"][row].copy_(count_nonfinite(rows_N[row]))
            slot.columns["exact_norm"][row].copy_(exact_norm(rows_N[row]))
        for row in tiny.tolist():  # host sync: none, a numpy array
            slot.host["num_nonfinite"][row] = 0
            slot.columns["exact_norm"][row].copy_(exact_norm(rows_N[row]))
        if thorough:
            is_zero_N = np.zeros(len(rows_N), dtype=bool)
            is_zero_N[tiny] = slot.host["exact_norm"][tiny] == 0
            plan.is_zero_W = is_zero_N[plan.norms.owner_W]
        return (*bad.tolist(), *tiny.tolist()), True  # host sync: none, numpy arrays

    def _tiny_rows(
        self, plan: _DevicePlan, pieces_W: npt.NDArray[np.floating], thorough: bool
    ) -> npt.NDArray[np.int64]:
        """Return the rows whose squares float32 could not hold, but for those that are known to be zero."""
        if not len(pieces_W) or not pieces_W.min() < _SMALLEST_SQUARABLE:
            return np.zeros(0, np.int64)
        is_tiny_W = pieces_W < _SMALLEST_SQUARABLE
        if plan.is_zero_W is not None and not thorough:
            is_tiny_W &= ~plan.is_zero_W
        rows = np.unique(plan.norms.owner_W[is_tiny_W])
        return rows if thorough else rows[:_MAX_TINY_ROWS]

    def _plans_for(
        self, gradients: list[Tensor | None], scalars: Mapping[str, Tensor]
    ) -> dict[torch.device, _DevicePlan]:
        devices = tuple({scalar.device: None for scalar in scalars.values()})
        plans = self._plans.get(((), devices))
        if plans is not None and len(self._plans) == 1:
            return plans  # so far every gradient was always there; one that is None now makes the write fail
        missing = tuple([index for index, gradient in enumerate(gradients) if gradient is None])
        plans = self._plans.get((missing, devices))
        if plans is None:
            while len(self._plans) >= _MAX_PLANS:
                self._plans.pop(next(iter(self._plans)))
            plans = self._plans[missing, devices] = self._make_plans(gradients, devices)
        return plans

    def _make_plans(
        self, gradients: list[Tensor | None], scalar_devices: Sequence[torch.device]
    ) -> dict[torch.device, _DevicePlan]:
        rows_by_device: dict[torch.device, list[int]] = {}
        num_unreadable = 0
        for index, gradient in enumerate(gradients):
            if gradient is not None and is_readable(gradient):
                rows_by_device.setdefault(gradient.device, []).append(index)
            num_unreadable += gradient is not None and not is_readable(gradient)
        for device in scalar_devices or (torch.device("cpu"),):
            rows_by_device.setdefault(device, [])
        return {
            device: self._make_plan(device, rows, gradients, num_unreadable)
            for device, rows in rows_by_device.items()
            if rows or device in scalar_devices or len(rows_by_device) == 1
        }

    def _make_plan(
        self, device: torch.device, rows: list[int], gradients: list[Tensor | None], num_unreadable: int
    ) -> _DevicePlan:
        present = [gradient for row in rows if (gradient := gradients[row]) is not None]
        special = frozenset(row for row, gradient in enumerate(present) if _is_special(gradient))
        dense_N = [dense_values(gradient) for gradient in present]
        norms = NormPlan(dense_N, [row for row, gradient in enumerate(present) if gradient.is_sparse])
        index_N = np.array(rows, dtype=np.int64)
        is_sharded = any(hasattr(gradient, "_local_tensor") for gradient in present)
        layout = Layout(
            parameter_index_N=index_N,
            owner_W=index_N[norms.owner_W],
            num_unreadable=num_unreadable,
            scope="local_shard" if is_sharded else "full",
            is_plain=len(rows) == len(gradients) and np.array_equal(norms.owner_W, np.arange(len(rows))),
        )
        one_pass = _one_pass_plan(dense_N)
        columns = {
            "statistics": 0 if one_pass is None else one_pass.width,
            "norm_pieces": norms.width,
            "num_nonfinite": len(rows),
            "exact_norm": len(rows),
            "carried": norms.width,
            "scalars": _MAX_SCALARS,
        }
        ring = self._ring(columns, device, norms)
        is_everything = len(rows) == len(gradients) and not special
        return _DevicePlan(tuple(rows), layout, norms, special, ring, is_everything, one_pass)

    def _ring(self, columns: dict[str, int], device: torch.device, norms: NormPlan) -> Ring:
        """Share the slots of a plan with the same columns, so that alternating experts do not each bring a ring."""
        unbound = ("scalars", "norm_pieces") if norms.has_few else ("scalars",)
        for plans in self._plans.values():
            for plan in plans.values():
                if plan.ring.fits(columns, device, norms.dtype, unbound=unbound):
                    return plan.ring
        return Ring(self._num_slots, columns, device, norms.dtype, unbound=unbound)


def _one_pass_plan(tensors: list[Tensor]) -> Any:
    """Return a TritonPlan where Triton is installed and can read these tensors, else None: foreach norms serve all."""
    if not tensors or not all(tensor.is_cuda and type(tensor) is Tensor for tensor in tensors):
        return None
    try:
        from ..triton_stats import TritonPlan, is_supported
    except ImportError:
        return None
    return TritonPlan(tensors) if is_supported(tensors) else None


def _is_special(gradient: Tensor) -> bool:
    return gradient.layout is not torch.strided or gradient.is_complex() or hasattr(gradient, "_local_tensor")


def _is_usual(pieces_W: npt.NDArray[np.floating]) -> bool:
    """Whether all norms are finite and can be squared; argmin takes NaN for the smallest, and half of min's time."""
    if len(pieces_W) <= _FEW_PIECES:
        pieces = pieces_W.tolist()  # host sync: none, a numpy array
        return not pieces or (min(pieces) >= _SMALLEST_SQUARABLE and sum(pieces) < math.inf)  # NaN makes the sum NaN
    is_squarable = pieces_W[pieces_W.argmin()] >= _SMALLEST_SQUARABLE
    return bool(is_squarable and pieces_W[pieces_W.argmax()] < math.inf)


def _rows(plan: _DevicePlan, gradients: list[Tensor | None]) -> list[Tensor]:
    if plan.is_everything:
        return gradients  # type: ignore[return-value]  # none is None
    rows = [row for index in plan.index_N if (row := gradients[index]) is not None]
    if len(rows) < len(plan.index_N):
        raise TypeError("a gradient is None that was there when the plan was made")  # `read` makes a new one
    return [dense_values(row) if i in plan.special else row for i, row in enumerate(rows)]


def _carry(plan: _DevicePlan, rows_N: list[Tensor]) -> None:
    """Keep which pieces of a dropped step were non-finite, on the device, for the next slot."""
    pieces_W = torch.empty(plan.norms.width, dtype=plan.norms.dtype, device=rows_N[0].device) if rows_N else None
    if pieces_W is None:
        return
    plan.norms.write(rows_N, pieces_W)
    bad_W = torch.isfinite(pieces_W).logical_not_().to(pieces_W.dtype)
    plan.carry_W = bad_W if plan.carry_W is None else plan.carry_W + bad_W
