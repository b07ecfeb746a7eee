"""One contender beside the bare loop: blocks interleaved in slices, ratios pair by pair."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from processes import Child

__all__ = ["Effort", "compare", "spread"]

_INTERVALS = 10
"""A block is longer than ten sampling intervals, so that what is done every k steps counts in it."""
_SETTLED_SHARE = 0.15
"""The interval has settled when it changed by less than this share from one warm-up block to the next."""
_PARTS = ("hooks", "worker", "server")


@dataclass(frozen=True)
class Effort:
    """How much time a comparison may take; the seconds are wall time of one side.

    Blocks are cut into slices of about `slice_seconds` that take turns with the other side's: a machine whose speed
    drifts within a block would otherwise favour one of them.
    """

    pairs: int
    warm_up_seconds: float
    min_block_seconds: float
    max_block_seconds: float
    slice_seconds: float = 0.5
    settling_rounds: int = 8
    """Warm-up blocks at the most, in which the sampling interval is to settle."""
    min_steps: int = 3


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the minimum, the median and the maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def compare(
    workload: str, contender: str, effort: Effort, say: Callable[[str], None], block_steps: int | None = None
) -> dict[str, Any]:
    """Run a contender and a bare loop in fresh processes, one at a time, and return the ratios of their blocks.

    `block_steps` sets the length of the blocks; by default they are long enough for the clock and for ten sampling
    intervals, within the effort's bounds.
    """
    bare, other = Child(workload, "bare"), Child(workload, contender)  # both start up at once
    with bare, other:
        bare_seconds = _warm_up(bare, effort)
        step_seconds, interval = _settle(other, effort)
        num_steps = block_steps or _block_steps(effort, step_seconds, interval)
        is_dear = (
            interval is None and step_seconds > 2 * bare_seconds
        )  # then the bare side needs more steps to be timed
        bare_steps = round(num_steps * step_seconds / bare_seconds) if is_dear else num_steps
        num_slices = max(1, min(num_steps, bare_steps, round(num_steps * step_seconds / effort.slice_seconds)))
        pairs: list[dict[str, Any]] = []
        for index in range(effort.pairs):
            own, theirs = _interleave(bare, other, _cut(bare_steps, num_slices), _cut(num_steps, num_slices))
            pairs.append(_pair(own, theirs))
            say(f"{workload:13} {contender:15} pair {index + 1}/{effort.pairs}: {_in_words(pairs[-1])}")
        return {"name": contender, **_summary(other.hello, pairs, interval), "slices_per_block": num_slices}


def _warm_up(child: Child, effort: Effort) -> float:
    """Warm up for the effort's time and return the seconds of a step."""
    first = child.run(effort.min_steps)
    num_steps = max(effort.min_steps, int(effort.warm_up_seconds * effort.min_steps / first["wall_seconds"]))
    block = child.run(num_steps)
    return float(block["wall_seconds"] / num_steps)


def _settle(child: Child, effort: Effort) -> tuple[float, int | None]:
    """Warm up until the sampling interval has settled; return the seconds of a step, and the interval if it has one."""
    seconds = _warm_up(child, effort)
    interval: int | None = child.run(effort.min_steps)["sample_interval_steps"]
    for _ in range(effort.settling_rounds if interval is not None else 0):
        before = interval
        assert before is not None
        num_steps = max(effort.min_steps, min(3 * before, int(effort.max_block_seconds / seconds)))
        interval = child.run(num_steps)["sample_interval_steps"]
        assert interval is not None
        if abs(interval - before) <= max(1, _SETTLED_SHARE * before):
            break
    return seconds, interval


def _block_steps(effort: Effort, step_seconds: float, interval: int | None) -> int:
    shortest = max(effort.min_steps, math.ceil(effort.min_block_seconds / step_seconds))
    longest = max(effort.min_steps, int(effort.max_block_seconds / step_seconds))
    return shortest if interval is None else max(shortest, min(longest, _INTERVALS * interval + 1))


def _cut(num_steps: int, num_slices: int) -> list[int]:
    """Return the steps of each slice of a block, as equal as can be."""
    return [num_steps * (i + 1) // num_slices - num_steps * i // num_slices for i in range(num_slices)]


def _interleave(
    bare: Child, other: Child, bare_slices: list[int], slices: list[int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run both blocks slice by slice, the sides going first in turn, and return the sums of either."""
    own: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for i, (bare_steps, num_steps) in enumerate(zip(bare_slices, slices, strict=True)):
        if i % 2:
            theirs.append(other.run(num_steps))
        own.append(bare.run(bare_steps))
        if not i % 2:
            theirs.append(other.run(num_steps))
    return _sum(own), _sum(theirs)


def _sum(answers: list[dict[str, Any]]) -> dict[str, Any]:
    numbers = ("steps", "cpu_seconds", "wall_seconds", "other_threads_cpu_seconds", "dropped_reports", "page_faults")
    total: dict[str, Any] = {name: sum(answer[name] for answer in answers) for name in numbers}
    parts = answers[-1]["spent_seconds"]
    total["spent_seconds"] = {part: sum(answer["spent_seconds"][part] for answer in answers) for part in parts}
    total["sample_interval_steps"] = answers[-1]["sample_interval_steps"]
    return total


def _pair(own: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    bare_step_seconds = own["cpu_seconds"] / own["steps"]
    step_seconds = theirs["cpu_seconds"] / theirs["steps"]
    return {
        "bare_step_seconds": bare_step_seconds,
        "step_seconds": step_seconds,
        "ratio": step_seconds / bare_step_seconds,
        "added_seconds": step_seconds - bare_step_seconds,
        "own_account_seconds": {part: value / theirs["steps"] for part, value in theirs["spent_seconds"].items()},
        "other_threads_seconds": theirs["other_threads_cpu_seconds"] / theirs["steps"],
        "sample_interval_steps": theirs["sample_interval_steps"],
        "dropped_reports": theirs["dropped_reports"],
        "page_faults_per_step": theirs["page_faults"] / theirs["steps"],
        "bare_page_faults_per_step": own["page_faults"] / own["steps"],
        "steps": theirs["steps"],
        "bare_steps": own["steps"],
    }


def _summary(hello: dict[str, Any], pairs: list[dict[str, Any]], interval: int | None) -> dict[str, Any]:
    bare_seconds = statistics.median(pair["bare_step_seconds"] for pair in pairs)
    summary: dict[str, Any] = {
        "num_tensors": hello["num_tensors"],
        "num_elements": hello["num_elements"],
        "bare_step_seconds": spread([pair["bare_step_seconds"] for pair in pairs]),
        "ratio": spread([pair["ratio"] for pair in pairs]),
        "added_seconds": spread([pair["added_seconds"] for pair in pairs]),
        "block_steps": pairs[0]["steps"],
        "pairs": pairs,
    }
    if interval is not None:
        accounts = [sum(pair["own_account_seconds"][part] for part in _PARTS) for pair in pairs]
        summary["sample_interval_steps"] = interval
        summary["dropped_share"] = sum(pair["dropped_reports"] for pair in pairs) / sum(pair["steps"] for pair in pairs)
        summary["intervals_per_block"] = pairs[0]["steps"] / interval
        summary["direct_added_seconds"] = spread(accounts)
        summary["direct_ratio"] = spread([1 + account / bare_seconds for account in accounts])
        summary["direct_parts_seconds"] = {
            part: statistics.median(pair["own_account_seconds"][part] for pair in pairs) for part in _PARTS
        }
        summary["other_threads_seconds"] = statistics.median(pair["other_threads_seconds"] for pair in pairs)
    return summary


def _in_words(pair: dict[str, Any]) -> str:
    text = (
        f"ratio {pair['ratio']:.4f}, {pair['added_seconds'] * 1e6:+.0f} us on {pair['bare_step_seconds'] * 1e3:.3f} ms"
    )
    account = pair["own_account_seconds"]
    if account:
        parts = ", ".join(f"{part} {account[part] * 1e6:.0f}" for part in _PARTS)
        text += f" (own account, us: {parts}; every {pair['sample_interval_steps']} steps a sample)"
    if pair["dropped_reports"]:
        text += f"; {pair['dropped_reports']} of {pair['steps']} reports DROPPED, what was dropped cost less"
    return text
