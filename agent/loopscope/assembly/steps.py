"""Assembler: one StepReport from one StepFrame; it also numbers the steps, since only here all skips are known.

Shape legend: P parameters, N of them on one device, W norm pieces, G layer groups.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..frames import Part, StepFrame, Table
from ..records import GradientTable, StepReport
from .activations import activation_table
from .samples import gradient_sample

__all__ = ["Assembler"]

_CLIP_EPSILON = 1e-6
"""torch.nn.utils.clip_grad: gradients are multiplied by min(1, max_norm / (total_norm + 1e-6))."""

_MANY_PARAMETERS = 64
"""Fewer are summed by hand: bincount lets go of the GIL, which costs 9 us where the training thread waits for it."""


@dataclass(slots=True)
class _Norms:
    """Squared norms and non-finite counts of the parameters, before unscaling."""

    squares_P: npt.NDArray[np.float64]
    is_present_P: npt.NDArray[np.bool_]
    num_nonfinite_P: npt.NDArray[np.int64]
    has_exact_counts: bool = True
    has_all: bool = False


class Assembler:
    """Makes the reports of one agent."""

    def __init__(self, run: str, agent: str, rank: int | None, initial_step: int) -> None:
        self._run, self._agent, self._rank = run, agent, rank
        self._next_step: dict[str | None, int] = defaultdict(lambda: initial_step)

    def report(self, frame: StepFrame) -> StepReport:
        """Return the report of a frame; its slots may be released afterwards."""
        scalars = _scalars(frame.parts) if frame.parts else {}
        logged = {**frame.logged, **_scalars(frame.logged_parts)} if frame.logged_parts else frame.logged
        skipped, num_steps, num_skipped = frame.skipped, frame.num_steps, dict(frame.num_skipped)
        if skipped is None and scalars.get("found_inf", 0.0) > 0:
            skipped, num_steps = "grad_scaler", num_steps - 1
            num_skipped["grad_scaler"] = num_skipped.get("grad_scaler", 0) + 1
        loss, source = _loss(logged, scalars.get("loss", frame.loss))
        gradients = _gradients(frame, scalars) if frame.parts else None
        phases, rates = _phases(frame), _learning_rates(frame, scalars)
        step = self._number(frame.optimizer, num_steps, is_step=skipped is None)  # last: what fails must not count
        return StepReport(
            run=self._run,
            agent=self._agent,
            rank=self._rank,
            optimizer=frame.optimizer,
            step=step,
            epoch=frame.epoch,
            micro_steps=frame.micro_steps,
            time_unix_seconds=frame.time_unix_seconds,
            duration_seconds=frame.duration_seconds,
            phases=phases,
            phases_clock="host" if frame.timeline is None else "device",
            loss=loss,
            loss_source=source,
            samples=frame.samples,
            tokens=frame.tokens,
            learning_rates=rates,
            gradients=gradients,
            activations=activation_table(frame.activations) if frame.activations else None,
            skipped=skipped,
            grad_scale=scalars.get("grad_scale"),
            batch=frame.batch,
            overhead_seconds=frame.overhead_seconds,
            num_steps=num_steps,
            num_skipped=num_skipped,
            num_micro_steps=frame.num_micro_steps,
            num_samples=frame.num_samples,
            num_tokens=frame.num_tokens,
            logged={name: value for name, value in logged.items() if name != "loss"},
        )

    def _number(self, optimizer: str | None, num_steps: int, *, is_step: bool) -> int:
        """Return the step's number; a step that did not happen has the number of the one that comes next."""
        self._next_step[optimizer] += num_steps
        return self._next_step[optimizer] - (1 if is_step else 0)


def _scalars(parts: tuple[Part, ...]) -> dict[str, float]:
    scalars: dict[str, float] = {}
    for part in parts:
        if part.scalars:
            scalars |= zip(part.scalars, part.values.read()["scalars"].tolist(), strict=False)  # host sync: none, numpy
    return scalars


def _loss(logged: Mapping[str, float], seen: float | None) -> tuple[float | None, str | None]:
    if "loss" in logged:
        return logged["loss"], "log"
    return seen, None if seen is None else "backward"


def _phases(frame: StepFrame) -> Mapping[str, float]:
    """Return the phases, the device's own where it has a clock: the host only sees when work was given to it."""
    if frame.timeline is None or not frame.phases or frame.duration_seconds is None:
        return frame.phases
    phases = dict(frame.timeline.phases())
    phases["data_wait"] = min(phases["data_wait"], frame.phases["data_wait"])
    phases["other"] = max(frame.duration_seconds - sum(phases.values()), 0.0)
    return phases


def _learning_rates(frame: StepFrame, scalars: Mapping[str, float]) -> tuple[float, ...]:
    rates = enumerate(frame.learning_rates)
    return tuple(scalars.get(f"learning_rate_{i}", math.nan) if rate is None else rate for i, rate in rates)


def _gradients(frame: StepFrame, scalars: Mapping[str, float]) -> GradientTable:
    table, parts = frame.table, frame.parts
    norms = _plain_norms(parts[0]) if len(parts) == 1 and _is_plain(parts[0]) else _norms(parts, len(table.names))
    scale = scalars.get("unscale", 1.0)
    squares_P = norms.squares_P if scale == 1.0 else norms.squares_P / (scale * scale)
    norms_P = np.sqrt(squares_P)
    if not norms.has_all:
        norms_P[~norms.is_present_P] = np.nan
    layout = parts[0].layout
    squares_G = _sums_by_layer(table, squares_P)
    return GradientTable(
        layers=table.layers,
        names=table.names,
        layer_index_P=table.layer_index_P,
        norms=norms_P,
        layer_norms=_layer_norms(table, squares_G, norms),
        global_norm=math.sqrt(sum(squares_G)) if norms.has_all or norms.is_present_P.any() else math.nan,
        global_norm_pre_clip=_global_before_clipping(frame, scalars, norms_P) if frame.clips else None,
        num_nonfinite=norms.num_nonfinite_P,
        is_nonfinite_count_exact=norms.has_exact_counts,
        scope=layout.scope
        if len(parts) == 1
        else next((p.layout.scope for p in parts if p.layout.scope != "full"), "full"),
        num_unreadable=layout.num_unreadable,
        frozen=table.frozen,
        sample=gradient_sample(frame, scale) if frame.is_sampled else None,
    )


def _is_plain(part: Part) -> bool:
    is_whole = part.layout.is_plain and part.has_counts
    return is_whole and not (part.rechecked or part.has_carried or part.has_statistics)


def _plain_norms(part: Part) -> _Norms:
    """The usual step: one device, one piece a parameter, everything finite."""
    pieces_P = part.values.read()["norm_pieces"].astype(np.float64)
    pieces_P *= pieces_P
    return _Norms(pieces_P, np.zeros(0, dtype=bool), np.zeros(len(pieces_P), np.int64), has_all=True)


def _norms(parts: tuple[Part, ...], num_parameters: int) -> _Norms:
    norms = _Norms(np.zeros(num_parameters), np.zeros(num_parameters, bool), np.zeros(num_parameters, np.int64))
    for part in parts:
        if part.has_statistics:
            _take_statistics(norms, part)
            continue
        pieces_W = part.values.read()["norm_pieces"].astype(np.float64)
        norms.squares_P += np.bincount(part.layout.owner_W, weights=pieces_W * pieces_W, minlength=num_parameters)
        norms.is_present_P[part.layout.parameter_index_N] = True
        if part.rechecked or part.has_carried or not part.has_counts:
            _recount(norms, part, pieces_W)
    norms.has_all = bool(norms.is_present_P.all())
    return norms


def _take_statistics(norms: _Norms, part: Part) -> None:
    """Take in what one pass on the device found out exactly."""
    index_N = part.layout.parameter_index_N
    statistics_KN = part.values.read()["statistics"].reshape(-1, len(index_N))
    norms.squares_P[index_N] = statistics_KN[0] ** 2
    norms.num_nonfinite_P[index_N] = statistics_KN[3].astype(np.int64)
    norms.is_present_P[index_N] = True
    norms.has_all = bool(norms.is_present_P.all())
    if part.has_carried:
        _recount(norms, part, np.zeros(len(part.layout.owner_W)))


def _recount(norms: _Norms, part: Part, pieces_W: npt.NDArray[np.float64]) -> None:
    """Take in what was looked at again, what could only be flagged, and what dropped steps had."""
    columns, layout = part.values.read(), part.layout
    is_bad_W = ~np.isfinite(pieces_W)
    if part.rechecked:
        rows = np.array(part.rechecked)
        index = layout.parameter_index_N[rows]
        norms.squares_P[index] = columns["exact_norm"][rows].astype(np.float64) ** 2
        norms.num_nonfinite_P[index] = columns["num_nonfinite"][rows].astype(np.int64)
    if not part.has_counts and is_bad_W.any():
        norms.num_nonfinite_P[layout.owner_W[is_bad_W]] = 1
        norms.has_exact_counts = False
    if part.has_carried and (is_carried_W := columns["carried"] > 0).any():
        norms.num_nonfinite_P[layout.owner_W[is_carried_W]] += 1
        norms.has_exact_counts = False


def _layer_norms(table: Table, squares_G: Sequence[float], norms: _Norms) -> npt.NDArray[np.float64]:
    norms_G: npt.NDArray[np.float64] = np.sqrt(squares_G)
    if not norms.has_all:
        num_present_G = np.bincount(table.layer_index_P, weights=norms.is_present_P, minlength=len(table.layers))
        norms_G[num_present_G == 0] = np.nan
    return norms_G


def _sums_by_layer(table: Table, values_P: npt.NDArray[np.float64]) -> list[float]:
    if len(values_P) > _MANY_PARAMETERS:
        sums_G = np.bincount(table.layer_index_P, weights=values_P, minlength=len(table.layers))
        sums: list[float] = sums_G.tolist()  # host sync: none, numpy
        return sums
    sums = [0.0] * len(table.layers)
    for layer, value in zip(table.layer_index_P.tolist(), values_P.tolist(), strict=True):  # host sync: none, numpy
        sums[layer] += value
    return sums


def _global_before_clipping(
    frame: StepFrame, scalars: Mapping[str, float], norms_P: npt.NDArray[np.float64]
) -> float | None:
    """Return the global L2 norm before clipping: each norm over the coefficient that it was multiplied by.

    So it holds for clipping by parameter groups and by any norm type. A norm that is not finite is given as it is;
    where the coefficient was 0 the norm before cannot be known.
    """
    factors_P = np.ones(len(norms_P))
    for i, clip in enumerate(frame.clips):
        total_norm = scalars.get(f"clip_norm_{i}")
        if total_norm is None:
            return None
        coefficient = min(1.0, clip.max_norm / (total_norm + _CLIP_EPSILON))
        if not (math.isfinite(total_norm) and coefficient > 0):
            return None if math.isfinite(total_norm) or clip.parameter_index is not None else total_norm
        factors_P[slice(None) if clip.parameter_index is None else clip.parameter_index] *= coefficient
    with np.errstate(all="ignore"):
        return math.sqrt(np.nansum((norms_P / factors_P) ** 2))
