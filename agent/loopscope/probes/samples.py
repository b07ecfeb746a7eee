"""SampleReader: what is taken every k steps only: largest magnitudes, weight norms, samples of gradients and updates.

Shape legend: P parameters of the optimizer, S sampled gradient elements, T sampled weight elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..frames import SampleFrame
from ..readback import Ring, Slot, is_capturing
from ..stats import NormPlan, SamplePlan, dense_values

__all__ = ["PendingSample", "SampleReader"]

_NUM_SLOTS = 2
_MAX_SAMPLED = 2**18
"""Elements of one sample over all parameters, so that two slots stay within a few megabytes."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one device is sampled."""

    gradient_index: tuple[int, ...]
    weight_index: tuple[int, ...]
    gradients: SamplePlan
    weights: SamplePlan
    weight_norms: NormPlan
    ring: Ring


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
        key = [
            (parameter.shape, parameter.dtype, parameter.device, None if g is None else (g.dtype, g.layout, g.device))
            for parameter, g in zip(parameters, gradients, strict=True)
        ]
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
                plan.weights.write([_dense(parameters[i]) for i in plan.weight_index], columns["update"])
                columns["update"].sub_(columns["weight"])
            sample.slot.commit()
            if sample.slot.is_real:
                frames.append(_frame(sample, has_update))
        return tuple(frames)

    def _fill(self, plan: _Plan, slot: Slot, parameters: Sequence[Tensor], gradients: list[Tensor | None]) -> None:
        columns = slot.columns
        present = [_dense(gradient) for i in plan.gradient_index if (gradient := gradients[i]) is not None]
        weights = [_dense(parameters[i]) for i in plan.weight_index]
        plan.gradients.write(present, columns["gradient"], columns["max_abs"])
        plan.weight_norms.write(weights, columns["weight_pieces"])
        plan.weights.write(weights, columns["weight"])

    def _make_plans(self, parameters: Sequence[Tensor], gradients: list[Tensor | None]) -> dict[torch.device, _Plan]:
        max_elements = min(self._max_elements, max(16, _MAX_SAMPLED // max(1, len(parameters))))
        devices = {parameter.device: None for parameter in parameters}
        return {device: self._make_plan(device, parameters, gradients, max_elements) for device in devices}

    def _make_plan(
        self, device: torch.device, parameters: Sequence[Tensor], gradients: list[Tensor | None], max_elements: int
    ) -> _Plan:
        # sparse gradients change their size from step to step: their norms are read, their elements are not sampled
        present = [
            i for i, g in enumerate(gradients) if g is not None and g.device == device and g.layout is torch.strided
        ]
        here = [
            i
            for i, parameter in enumerate(parameters)
            if parameter.device == device and parameter.layout is torch.strided
        ]
        gradient_plan = SamplePlan([_dense(g) for i in present if (g := gradients[i]) is not None], max_elements)
        weights = [_dense(parameters[i]) for i in here]
        weight_plan, weight_norms = SamplePlan(weights, max_elements), NormPlan(weights)
        columns = {
            "max_abs": len(gradient_plan.order_N),
            "weight_pieces": weight_norms.width,
            "gradient": gradient_plan.width,
            "weight": weight_plan.width,
            "update": weight_plan.width,
        }
        ring = Ring(_NUM_SLOTS, columns, device, weight_norms.dtype)
        return _Plan(tuple(present), tuple(here), gradient_plan, weight_plan, weight_norms, ring)


def _dense(tensor: Tensor) -> Tensor:
    return dense_values(tensor.detach())


def _frame(sample: PendingSample, has_update: bool) -> SampleFrame:
    plan = sample.plan
    gradient_index = np.array(plan.gradient_index, dtype=np.int64)
    weight_index = np.array(plan.weight_index, dtype=np.int64)
    return SampleFrame(
        values=sample.slot,
        max_abs_owner_M=gradient_index[plan.gradients.order_N],
        weight_owner_W=weight_index[plan.weight_norms.owner_W],
        gradient_owner_S=gradient_index[plan.gradients.owner_S],
        weight_owner_T=weight_index[plan.weights.owner_S],
        has_update=has_update,
    )
