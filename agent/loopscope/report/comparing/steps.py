"""Two runs step by step: where they part, in which quantity first, and how far.

Within a step quantities are looked at in the order in which they come about: the batch, the loss, then the gradients
from the last parameter to the first, as backward computes them, clipping, the learning rates.

Shape legend: P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...records import Floats
from ..log import Entry, columns, real

__all__ = ["Gap", "StepDifferences", "relative_difference", "walk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The first step at which the runs are further apart than a level, and the first quantity that is."""

    level: float
    """Relative difference that is exceeded; 0 is any difference of what the log has."""
    step: int
    quantity: str
    a: float | str | None
    b: float | str | None
    difference: float
    """Relative to the larger of the two."""
    num_parameters: int = 0
    """Parameters whose norms are as far apart at that step, where `quantity` is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDifferences:
    """What the walk along both runs has found."""

    num_common: int
    num_only_a: int
    num_only_b: int
    gaps: tuple[Gap, ...]
    """By rising level; a level that is never exceeded is not there."""
    parameters_only_a: tuple[str, ...]
    parameters_only_b: tuple[str, ...]


def walk(steps_a: Iterator[Entry], steps_b: Iterator[Entry], levels: Sequence[float]) -> StepDifferences:
    """Compare the step lines of one optimizer in both runs, matched by their numbers; constant memory."""
    numbered_a, numbered_b = _numbered(steps_a), _numbered(steps_b)
    a, b = next(numbered_a, None), next(numbered_b, None)
    gaps: dict[float, Gap] = {}
    num_common = num_only_a = num_only_b = 0
    names_a: Sequence[str] = ()
    names_b: Sequence[str] = ()
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            num_only_a += 1
            a = next(numbered_a, None)
        elif a is None or b[0] < a[0]:
            num_only_b += 1
            b = next(numbered_b, None)
        else:
            num_common += 1
            names_a, names_b = names_a or _names(a[1]), names_b or _names(b[1])
            missing = [level for level in levels if level not in gaps]
            if missing:
                gaps |= _gaps(a[1], b[1], missing)
            a, b = next(numbered_a, None), next(numbered_b, None)
    return StepDifferences(
        num_common=num_common,
        num_only_a=num_only_a,
        num_only_b=num_only_b,
        gaps=tuple(gaps[level] for level in sorted(gaps)),
        parameters_only_a=tuple(name for name in names_a if name not in set(names_b)),
        parameters_only_b=tuple(name for name in names_b if name not in set(names_a)),
    )


def relative_difference(a: float | None, b: float | None) -> float:
    """Return |a - b| over the larger magnitude; infinite where only one is known or finite, 0 where both are NaN."""
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b))


def _numbered(steps: Iterator[Entry]) -> Iterator[tuple[tuple[int, int], Entry]]:
    """Skipped steps bear the number of the step that did not happen: the second line with it is the second."""
    latest, repeated = -1, 0
    for entry in steps:
        repeated = repeated + 1 if entry["step"] == latest else 0
        latest = entry["step"]
        yield (latest, repeated), entry


def _names(entry: Entry) -> Sequence[str]:
    return (entry.get("gradients") or {}).get("names") or ()


def _gaps(a: Entry, b: Entry, levels: Sequence[float]) -> dict[float, Gap]:
    found: dict[float, Gap] = {}
    for gap in _quantities(a, b):
        for level in levels:
            if level not in found and gap.difference > level:
                found[level] = replace(gap, level=level)
        if len(found) == len(levels):
            break
    return {level: _counted(gap, a, b) if gap.num_parameters else gap for level, gap in found.items()}


def _quantities(a: Entry, b: Entry) -> Iterator[Gap]:
    """Yield what differs, in the order in which it comes about."""
    for name, words in (("samples", "samples in the batch"), ("loss", "loss")):
        yield from _scalar(a, a.get(name), b.get(name), words)
    gradients_a, gradients_b = a.get("gradients") or {}, b.get("gradients") or {}
    if bool(gradients_a) != bool(gradients_b):
        yield Gap(
            level=0.0,
            step=a["step"],
            quantity="gradients",
            a="logged" if gradients_a else None,
            b="logged" if gradients_b else None,
            difference=math.inf,
        )
    yield from _norms(a, gradients_a, gradients_b)
    for name, words in (
        ("global_norm_pre_clip", "global gradient norm before clipping"),
        ("global_norm", "global gradient norm"),
    ):
        yield from _scalar(a, gradients_a.get(name), gradients_b.get(name), words)
    if a.get("skipped") != b.get("skipped"):
        values = (a.get("skipped") or "taken", b.get("skipped") or "taken")
        yield Gap(level=0.0, step=a["step"], quantity="step", a=values[0], b=values[1], difference=math.inf)
    rates_a, rates_b = a.get("learning_rates") or [], b.get("learning_rates") or []
    for group in range(max(len(rates_a), len(rates_b))):
        pair = [rates[group] if group < len(rates) else None for rates in (rates_a, rates_b)]
        yield from _scalar(a, pair[0], pair[1], f"learning rate of group {group}")


def _scalar(entry: Entry, a: object, b: object, words: str) -> Iterator[Gap]:
    if a == b:
        return
    difference = relative_difference(real(a), real(b))
    if difference > 0:
        yield Gap(level=0.0, step=entry["step"], quantity=words, a=real(a), b=real(b), difference=difference)


def _norms(entry: Entry, a: Entry, b: Entry) -> Iterator[Gap]:
    norms_a, norms_b, names = a.get("norms"), b.get("norms"), a.get("names") or ()
    if norms_a == norms_b or not norms_a or not norms_b or names != b.get("names"):
        return
    differences_P = _differences(norms_a, norms_b)
    differing = np.flatnonzero(differences_P > 0)
    for index in reversed(differing.tolist()):
        yield Gap(
            level=0.0,
            step=entry["step"],
            quantity=f"gradient norm of {names[index]}",
            a=real(norms_a[index]),
            b=real(norms_b[index]),
            difference=float(differences_P[index]),
            num_parameters=len(differing),
        )


def _counted(gap: Gap, a: Entry, b: Entry) -> Gap:
    differences_P = _differences(a["gradients"]["norms"], b["gradients"]["norms"])
    return replace(gap, num_parameters=int((differences_P > gap.level).sum()))


def _differences(a: list[object], b: list[object]) -> Floats:
    """[P] relative differences, as `relative_difference` has them."""
    a_P, b_P = np.array(columns(a)), np.array(columns(b))
    is_known_a, is_known_b = (np.array([value is not None for value in values]) for values in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        differences_P: Floats = np.abs(a_P - b_P) / np.maximum(np.abs(a_P), np.abs(b_P))
    is_equal = (a_P == b_P) | (np.isnan(a_P) & np.isnan(b_P) & (is_known_a == is_known_b))
    differences_P[~(np.isfinite(a_P) & np.isfinite(b_P))] = math.inf
    differences_P[is_equal] = 0.0
    return differences_P
