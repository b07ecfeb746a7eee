"""Colours with a meaning, the same ones on every dashboard; wherever one is used a text says it too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loopscope.catalog import HEALTH_STATES

from .native import Json

__all__ = ["DECADES", "GOOD", "NEUTRAL", "PHASE_COLORS", "SERIOUS", "STATES", "UNKNOWN", "WARNING", "steps", "texts"]

GOOD, WARNING, SERIOUS, NEUTRAL, UNKNOWN = "green", "orange", "red", "blue", "#808080"

_STATE_COLORS = {
    "healthy": GOOD,
    "unstable": "yellow",
    "vanishing": "blue",
    "dead": "purple",
    "exploding": WARNING,
    "nonfinite": SERIOUS,
}
PHASE_COLORS = {
    "data_wait": "orange",
    "forward": "green",
    "backward": "blue",
    "optimizer": "purple",
    "other": UNKNOWN,
}
_RAMP = ((37, 52, 130), (33, 102, 172), (53, 151, 143), (102, 189, 99), (254, 224, 90), (244, 109, 67), (178, 24, 43))
_LOWEST, _HIGHEST = -20, 10
"""In half decades: from 1e-10, which no float16 and hardly a float32 gradient matters below, to 1e5."""


def steps(*pairs: tuple[float | None, str]) -> Json:
    """Return thresholds, each colour from its value upwards; the first value is None."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in pairs]}


def texts(mapped: Mapping[int, tuple[str, str]], missing: tuple[str, str] | None = None) -> list[Json]:
    """Return value mappings: number to text and colour; `missing` is for no value and for NaN."""
    options = {
        str(value): {"color": color, "index": index, "text": text}
        for index, (value, (text, color)) in enumerate(mapped.items())
    }
    made: list[Json] = [{"type": "value", "options": options}]
    if missing is not None:
        result = {"color": missing[1], "index": len(options), "text": missing[0]}
        made.append({"type": "special", "options": {"match": "null+nan", "result": result}})
    return made


def _states() -> dict[int, tuple[str, str]]:
    return {index: (state, _STATE_COLORS[state]) for index, state in enumerate(HEALTH_STATES)}


def _decades() -> dict[int, tuple[str, str]]:
    halves = range(_LOWEST, _HIGHEST + 1)
    named = {half: (_decade(half), _ramp((half - _LOWEST) / (_HIGHEST - _LOWEST))) for half in halves}
    named[_LOWEST] = (f"0 to {_bound(_LOWEST + 1)}", named[_LOWEST][1])
    named[_HIGHEST] = (f"{_bound(_HIGHEST)} and more", named[_HIGHEST][1])
    return named


def _decade(half: int) -> str:
    return f"{_bound(half)} to {_bound(half + 1)}"


def _bound(half: int) -> str:
    decade, is_upper = divmod(half, 2)
    digit = 3 if is_upper else 1
    return f"{digit * 10.0**decade:g}" if abs(decade) < 3 else f"{digit}e{decade}"


def _ramp(share: float) -> str:
    place = share * (len(_RAMP) - 1)
    lower = min(int(place), len(_RAMP) - 2)
    mixed: Iterable[int] = (
        round(a + (b - a) * (place - lower)) for a, b in zip(_RAMP[lower], _RAMP[lower + 1], strict=True)
    )
    return "#" + "".join(f"{part:02x}" for part in mixed)


STATES = texts(_states())
"""Of a layer, by its place in HEALTH_STATES, the worst last."""
DECADES = texts(_decades(), missing=("not finite", SERIOUS))
"""Of `floor(2 * log10(x))`: two colours a decade, cold is small and hot is large."""
