"""What is said of the loop as a whole: names, rates, curves, where the time of a step goes, what loopscope takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..catalog import PHASES
from ..report.humanise import bytes_, count, number, seconds, share
from .reading import mapping, real, sequence, text, whole
from .state import State

__all__ = ["Figure", "curves", "name", "origin", "ourselves", "phases", "progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number of the latest step and its course over the run."""

    name: str
    value: str
    is_bad: bool
    """Whether it is not finite."""
    points: Sequence[float]
    aside: str = ""
    is_from_zero: bool = False
    """Whether the curve begins at zero: where a little more or less means nothing."""


def name(state: State) -> Sequence[str]:
    """Return what the picture is of: agent, rank, optimizer, run, and how to see what else is there."""
    rank = state.step.get("rank") if state.step else state.run.get("rank")
    parts = [state.agent]
    parts += [] if rank is None else [f"rank {rank}"]
    parts += [] if state.optimizer is None else [f"optimizer {state.optimizer}"]
    parts.append(text(state.run.get("run")) or "run without a name")
    ours = [sequence(each.get("optimizers")) for each in state.agents if each.get("agent") == state.agent]
    for option, num in (("--agent", len(state.agents)), ("--optimizer", max([len(each) for each in ours] + [0]))):
        parts += [f"{count(num - 1)} more with {option}"] if num > 1 else []
    return parts


def origin(state: State) -> str:
    """Return what is trained, and where; empty where that is not known."""
    if not state.run:
        return ""
    size = f"{text(state.run.get('model'))}, {count(whole(state.run.get('num_elements')))} parameters"
    return f"{size}, on {text(state.run.get('host'))}"


def progress(state: State) -> Sequence[str]:
    """Return how far it is and how fast it goes; empty before the first step."""
    if not state.step:
        return []
    recent = state.history.recent()
    parts = [f"epoch {whole(state.step.get('epoch')):,}", f"step {whole(state.step.get('step')):,}"]
    for total, unit in ((recent.num_steps, "steps/s"), (recent.samples, "samples/s"), (recent.tokens, "tokens/s")):
        rate = recent.rate(total)
        parts += [] if rate is None else [f"{_rounded(rate)} {unit}"]
    return parts


def curves(state: State) -> Sequence[Figure]:
    """Return loss, gradient norm, learning rate and step time; those that are not known have a dash."""
    table = mapping(state.step.get("gradients"))
    clipped = real(table.get("global_norm_pre_clip"))
    rates = sequence(state.step.get("learning_rates"))
    duration = state.history.recent().step_seconds or real(state.step.get("duration_seconds"))
    skipped = text(state.step.get("skipped")).replace("_", " ")
    norm = real(table.get("global_norm"))
    norm_asides = [] if clipped is None else [f"{number(clipped)} before clipping"]
    if clipped is not None and norm is not None and math.isclose(clipped, norm, rel_tol=1e-6):
        norm_asides = ["not clipped"]
    norm_asides += [f"skipped: {skipped}"] if skipped else []
    return (
        _figure(
            state, "loss", "loss", real(state.step.get("loss")), _extreme(state, "loss_low", min, "lowest", number)
        ),
        _figure(
            state,
            "norm",
            "gradient norm",
            norm,
            ", ".join(norm_asides) or _extreme(state, "norm_high", max, "highest", number),
        ),
        _figure(
            state,
            "learning_rate",
            "learning rate",
            real(rates[0]) if rates else None,
            f"of {len(rates)} groups the first" if len(rates) > 1 else "",
        ),
        Figure(
            name="step time",
            value=seconds(duration),
            is_bad=False,
            points=state.history.points("duration_mean"),
            aside=_extreme(state, "duration_high", max, "longest", seconds),
            is_from_zero=True,
        ),
    )


def phases(state: State) -> Sequence[tuple[str, float]]:
    """Return the phases of the recent steps in their order, each with its share of the time; none where unknown."""
    known = state.history.recent().phases
    total = sum(known.values())
    return [(phase, known.get(phase, 0.0) / total) for phase in PHASES] if total > 0 else []


def ourselves(state: State) -> Sequence[str]:
    """Return the process's memory, what loopscope takes, and what it had to leave out; empty where it has not said."""
    ours = state.itself
    if not ours:
        return []
    memory = real(ours.get("process_memory_bytes"))
    parts = [f"memory {bytes_(memory)}"] if memory is not None else []
    parts.append(f"overhead {share(real(ours.get('overhead_ratio')))}")
    parts += _faults(mapping(ours.get("internal_errors")), ours.get("disabled_parts"))
    if dropped := whole(ours.get("dropped_reports")):
        parts.append(f"{count(dropped)} reports dropped")
    if interval := whole(ours.get("sample_interval_steps")):
        parts.append("a sample every step" if interval == 1 else f"a sample every {count(interval)} steps")
    return parts


def _faults(errors: Mapping[str, object], disabled: object) -> Sequence[str]:
    faulty = [f"{part} {count(number)}" for part, value in errors.items() if (number := whole(value))]
    off = [text(part) for part in sequence(disabled)]
    return [*([f"faults: {', '.join(faulty)}"] if faulty else []), *([f"off: {', '.join(off)}"] if off else [])]


def _figure(state: State, column: str, label: str, value: float | None, aside: str) -> Figure:
    is_bad = value is not None and not math.isfinite(value)
    points = state.history.points(f"{column}_mean")
    return Figure(name=label, value=number(value), is_bad=is_bad, points=points, aside=aside)


def _extreme(
    state: State,
    column: str,
    choose: Callable[[Iterable[float]], float],
    word: str,
    humanise: Callable[[float], str],
) -> str:
    finite = [point for point in state.history.points(column) if math.isfinite(point)]
    return f"{word} {humanise(choose(finite))}" if finite else ""


def _rounded(value: float) -> str:
    return count(round(value)) if value >= 100 else number(float(f"{value:.3g}"))
