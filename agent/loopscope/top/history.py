"""The steps since attach in spans, put together from what one answer after the other brings of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .reading import column, mapping, sequence, text, whole

__all__ = ["History", "merged"]

MAX_SPANS = 4_096
"""Of an answer: what has more is none of ours."""
_RECENT_SECONDS = 10.0
_TOTALS = ("samples", "tokens")
_PHASE = "phase_"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Span `i` holds the steps from origin + i * width on. In columns NaN is unknown, infinity was not finite."""

    origin: int = 0
    width: int = 0
    num_spans: int = 0
    columns: Mapping[str, Sequence[float]] = field(default_factory=dict)
    layers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The norm of each layer."""

    def points(self, name: str) -> Sequence[float]:
        """Return a column, an empty one where there is none of that name."""
        return self.columns.get(name, ())

    def recent(self) -> Recent:
        """Sum up the latest spans that hold ten seconds of steps together, or all there is."""
        steps, seconds = 0.0, 0.0
        sums: dict[str, float] = {}
        names = [name for name in self.columns if name in _TOTALS or name.startswith(_PHASE)]
        for index in reversed(range(self.num_spans)):
            duration, num_steps = (self._known(name, index) for name in ("duration_mean", "num_steps"))
            if duration * num_steps <= 0:
                continue
            steps, seconds = steps + num_steps, seconds + duration * num_steps
            for name in names:
                sums[name] = sums.get(name, 0.0) + self._known(name, index)
            if seconds >= _RECENT_SECONDS:
                break
        phases = {name.removeprefix(_PHASE): total for name, total in sums.items() if name.startswith(_PHASE)}
        return Recent(
            num_steps=steps,
            seconds=seconds,
            samples=sums.get("samples", 0.0),
            tokens=sums.get("tokens", 0.0),
            phases=phases,
        )

    def _known(self, name: str, index: int) -> float:
        value = self.columns[name][index] if name in self.columns else 0.0
        return value if math.isfinite(value) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The latest steps, together."""

    num_steps: float
    seconds: float
    samples: float
    tokens: float
    phases: Mapping[str, float]
    """Seconds by phase."""

    @property
    def step_seconds(self) -> float | None:
        """What a step takes, None where that is not known."""
        return self.seconds / self.num_steps if self.num_steps else None

    def rate(self, number: float) -> float | None:
        """Return so many in these seconds as a rate, None where there were none."""
        return number / self.seconds if self.seconds and number else None


def merged(known: History, answer: object) -> History | None:
    """Return the history with what an answer says of it: in place of what was known from its `first` span on.

    None where the answer goes on from spans that are not known. null, before the first step, is an empty history.
    """
    news = mapping(answer)
    origin, width, num_spans, first = (whole(news.get(name)) for name in ("origin", "width", "num_spans", "first"))
    num_spans = min(num_spans, MAX_SPANS)
    if first > num_spans or (first and (known.width, known.origin) != (width, origin)) or first > known.num_spans:
        return None
    fresh = {name: column(values, num_spans - first) for name, values in mapping(news.get("columns")).items()}
    names = [text(name) for name in sequence(news.get("layers"))]
    rows = sequence(news.get("layer_norms"))
    norms = {name: column(row, num_spans - first) for name, row in zip(names, rows, strict=False)}
    return History(
        origin=origin,
        width=width,
        num_spans=num_spans,
        columns={name: _joined(known.columns.get(name, ()), first, column) for name, column in fresh.items()},
        layers={name: _joined(known.layers.get(name, ()), first, norm) for name, norm in norms.items()},
    )


def _joined(known: Sequence[float], first: int, fresh: Sequence[float]) -> Sequence[float]:
    kept = known[:first]
    return [*kept, *[math.nan] * (first - len(kept)), *fresh]
