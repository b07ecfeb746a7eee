"""Numbers that more than one dashboard begins with."""

from __future__ import annotations

from .boards import Links
from .colors import GOOD, SERIOUS, WARNING, steps
from .native import Json
from .panels import stat
from .queries import grouped, held, instant, latest, or_none, rate, selected, total

__all__ = ["overhead_stat", "recompilations_stat", "syncs_stat"]


def syncs_stat(links: Links) -> Json:
    """Return how often a step waits for the device."""
    return stat(
        "Syncs a step",
        "Times a step waits for the device, allowed ones left out; one, for the loss, is the habit of most loops. "
        "Where none was seen there is no number, which is not 0: without an accelerator nobody looks, unless "
        "sync_device says so.",
        held(f"{total(rate('loopscope.device.syncs'))} / {total(rate('loopscope.steps'))}"),
        unit="suffix: a step",
        empty="none seen",
        thresholds=steps((None, GOOD), (2, WARNING), (5, SERIOUS)),
        decimals=1,
        links=links.to("device_sync_storm"),
    )


def recompilations_stat(links: Links) -> Json:
    """Return how often compiled code was compiled again."""
    counts = latest(grouped("sum", "run, agent, rank, frame, reason", selected("loopscope.recompilations")))
    return stat(
        "Recompilations",
        "Compiled frames that were compiled again, since attach.",
        instant(f"sum ({or_none(counts, 'frame', known_by='loopscope.compilations')})"),
        unit="none",
        empty="not reporting",
        thresholds=steps((None, GOOD), (5, WARNING), (20, SERIOUS)),
        has_trend=False,
        links=links.to("recompile_storm"),
    )


def overhead_stat() -> Json:
    """Return what loopscope costs."""
    return stat(
        "Overhead",
        "CPU time of loopscope itself over the time of the loop, the largest one; the budget is 1 %, or 100 us a "
        "step, by default.",
        held(total(selected("loopscope.overhead.ratio"), "max")),
        unit="percentunit",
        empty="not measured yet",
        thresholds=steps((None, GOOD), (0.015, WARNING), (0.03, SERIOUS)),
        decimals=2,
    )
