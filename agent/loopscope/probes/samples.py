"""SampleReader: what is taken every k steps only: largest magnitudes, weight norms, samples of gradients and updates.

Shape legend: P parameters of the optimizer, S sampled gradient elements, T sampled weight elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..frames import Runs, SampleFrame
from ..readback import Ring, Slot, is_capturing
from ..stats import NormPlan, SamplePlan, dense_values

__all__ = ["PendingSample", "SampleReader"]

_MIN_SLOTS, _MAX_SLOTS = 2, 16
_SLOTS_ELEMENTS = 2**17
"""Room for further slots: short steps are sampled several times before the worker looks again."""
_MAX_SAMPLED = 2**16
"""Elements of one sample over all parameters: two slots stay below 2 MB, and the worker is done in some 2 ms."""
_kind_of = attrgetter("__class__", "shape", "dtype", "device")
_gradient_kind_of = attrgetter("__class__", "dtype", "layout", "device")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Which of the optimizer's tensors are read, and which rows of them need `dense_values`: complex, DTensor."""

    index: tuple[int, ...]
    special: tuple[int, ...]

    @classmethod
    def among(cls, tensors: Sequence[Tensor | None], device: torch.device) -> _Rows:
        """Return the rows on one device; sparse ones change their size from step to step and are left out."""
        index = tuple(
            [
                i
                for i, tensor in enumerate(tensors)
                if tensor is not None and tensor.device == device and tensor.layout is torch.strided
            ]
        )
        rows = _Rows(index, ()).of(tensors)
        return _Rows(index, tuple([row for row, tensor in enumerate(rows) if dense_values(tensor) is not tensor]))

    def of(self, tensors: Sequence[Tensor | None]) -> list[Tensor]:
        rows = [tensor for i in self.index if (tensor := tensors[i]) is not None]
        for row in self.special:
            rows[row] = dense_values(rows[row])
        return rows


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one device is sampled, and whom its numbers belong to (see SampleFrame)."""

    gradient_rows: _Rows
    weight_rows: _Rows
    gradients: SamplePlan
    weights: SamplePlan
    weight_norms: NormPlan
    ring: Ring
    owners: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PendingSample:
    """A sample between the moment before the update and the moment after it."""

    plan: _Plan
    slot: Slot


class SampleReader:
    """Samples the gradients and weights of one optimizer around one of its steps."""

    def __init__(self, max_elements: int) -> None:
        self._max_elements = max_elements
        self._plans: dict[torch.device, _Plan] = {}
        self._key: object = None

    @torch.no_grad()
    def before_update(self, parameters: Sequence[Tensor]) -> tuple[PendingSample, ...]:
        """Read gradients and weights before the optimizer changes them; nothing where the worker is behind."""
        if is_capturing():
            return ()
        gradients = [parameter.grad for parameter in parameters]
        key = (
            list(map(_kind_of, parameters)),
            [None if gradient is None else _gradient_kind_of(gradient) for gradient in gradients],
        )
        if key != self._key:
            self._key, self._plans = key, self._make_plans(parameters, gradients)
        pending: list[PendingSample] = []
        for plan in self._plans.values():
            slot = plan.ring.acquire()
            if slot is not None:
                self._fill(plan, slot, parameters, gradients)
                pending.append(PendingSample(plan, slot))
        return tuple(pending)

    @torch.no_grad()
    def after_update(
        self, pending: Sequence[PendingSample], parameters: Sequence[Tensor], *, has_update: bool
    ) -> tuple[SampleFrame, ...]:
        """Read the same weights again and send the samples off; `has_update` False where the step did not happen."""
        frames: list[SampleFrame] = []
        for sample in pending:
            plan, columns = sample.plan, sample.slot.columns
            if has_update:
                plan.weights.write(plan.weight_rows.of(parameters), columns["update"])
                columns["update"].sub_(columns["weight"])
            sample.slot.commit()
            if sample.slot.is_real:
                frames.append(SampleFrame(values=sample.slot, has_update=has_update, **plan.owners))
        return tuple(frames)

    def _fill(self, plan: _Plan, slot: Slot, parameters: Sequence[Tensor], gradients: list[Tensor | None]) -> None:
        columns = slot.columns
        weights = plan.weight_rows.of(parameters)
        plan.gradients.write(plan.gradient_rows.of(gradients), columns["gradient"], columns["max_abs"])
        plan.weight_norms.write(weights, columns["weight_pieces"])
        plan.weights.write(weights, columns["weight"])

    def _make_plans(self, parameters: Sequence[Tensor], gradients: list[Tensor | None]) -> dict[torch.device, _Plan]:
        max_elements = min(self._max_elements, max(16, _MAX_SAMPLED // max(1, len(parameters))))
        devices = {parameter.device: None for parameter in parameters}
        return {device: self._make_plan(device, parameters, gradients, max_elements) for device in devices}

    def _make_plan(
        self, device: torch.device, parameters: Sequence[Tensor], gradients: list[Tensor | None], max_elements: int
    ) -> _Plan:
        gradient_rows, weight_rows = _Rows.among(gradients, device), _Rows.among(parameters, device)
        gradient_plan, weights = SamplePlan(gradient_rows.of(gradients), max_elements), weight_rows.of(parameters)
        weight_plan, weight_norms = SamplePlan(weights, max_elements), NormPlan(weights)
        columns = {
            "max_abs": len(gradient_plan.order_N),
            "weight_pieces": weight_norms.width,
            "gradient": gradient_plan.width,
            "weight": weight_plan.width,
            "update": weight_plan.width,
        }
        num_slots = max(_MIN_SLOTS, min(_MAX_SLOTS, _SLOTS_ELEMENTS // max(1, sum(columns.values()))))
        ring = Ring(num_slots, columns, device, weight_norms.dtype)
        gradient_index, weight_index = (np.array(rows.index, np.int64) for rows in (gradient_rows, weight_rows))
        owners = {
            "max_abs_owner_M": gradient_index[gradient_plan.order_N],
            "weight_owner_W": weight_index[weight_norms.owner_W],
            "gradient_runs": Runs.of(gradient_index[gradient_plan.owner_S]),
            "weight_runs": Runs.of(weight_index[weight_plan.owner_S]),
        }
        return _Plan(gradient_rows, weight_rows, gradient_plan, weight_plan, weight_norms, ring, owners)
