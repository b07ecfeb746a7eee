"""What a run costs: memory and processor, and what of it is loopscope's own."""

from __future__ import annotations

from .boards import Links
from .colors import NEUTRAL, SERIOUS, UNKNOWN, WARNING
from .native import Json
from .panels import lines, paint
from .queries import grouped, held, of_processes, per_step, rate, selected, total

__all__ = ["allocator", "memory", "overhead", "overhead_by_part", "own_faults", "processor", "sampling"]

_NO_AGENT = "No agent was scraped in this time range."


def memory(links: Links) -> Json:
    """Return the memory of each process."""
    return lines(
        "Memory of the processes",
        "Resident memory of each training process. A line that rises with the steps for good is a leak: often a loss "
        "that is kept with its graph.",
        held(
            of_processes("max", "run, rank, instance", selected("loopscope.process.memory")),
            "{{run}} {{rank}} {{instance}}",
        ),
        unit="bytes",
        empty=_NO_AGENT,
        legend=("lastNotNull", "max"),
        links=links.to("memory_creep"),
    )


def processor() -> Json:
    """Return the processor time of each process."""
    return lines(
        "Processor cores in use",
        "CPU seconds a second of each training process, all threads together: 1 is one core.",
        held(
            of_processes("max", "run, rank, instance", rate("loopscope.process.cpu")), "{{run}} {{rank}} {{instance}}"
        ),
        unit="suffix: cores",
        empty=_NO_AGENT,
        legend=("mean",),
    )


def allocator() -> Json:
    """Return what makes the CUDA allocator wait."""
    return lines(
        "CUDA allocator in distress",
        "Events of the caching allocator that make it wait for the device: retries after a failed allocation, waits "
        "for all streams, blocks given back to the driver. Flat at 0 on a CPU and in a healthy run.",
        held(grouped("sum", "event", rate("loopscope.allocator.events")), "{{event}}"),
        unit="suffix:/s",
        least_top=1,
        empty=_NO_AGENT,
        legend=("max",),
    )


def overhead() -> Json:
    """Return the overhead of each agent."""
    return lines(
        "Overhead by agent",
        "CPU time of loopscope over the time of the loop, by agent; the budget is 1 %, or 100 us a step, by default.",
        held(grouped("max", "run, agent, rank", selected("loopscope.overhead.ratio")), "{{agent}} {{rank}} {{run}}"),
        unit="percentunit",
        empty="Not measured yet.",
        legend=("lastNotNull",),
    )


def overhead_by_part() -> Json:
    """Return what the overhead is made of."""
    return lines(
        "Overhead a step, by part",
        "CPU time of loopscope for each step: hooks on the training thread, the worker, the server that is scraped.",
        held(per_step("probe", rate("loopscope.overhead")), "{{probe}}"),
        unit="s",
        empty=_NO_AGENT,
        stacking="normal",
        legend=("mean",),
        overrides=(paint("hooks", WARNING), paint("worker", NEUTRAL), paint("server", UNKNOWN)),
    )


def sampling() -> Json:
    """Return how often statistics are taken."""
    return lines(
        "Steps between samples",
        "Every how many steps the dear statistics are taken (magnitudes, weights, updates), as the budget allows.",
        held(grouped("max", "run, agent, rank", selected("loopscope.sample.interval")), "{{agent}} {{rank}} {{run}}"),
        unit="suffix: steps",
        empty="Not decided yet.",
        is_stepped=True,
        is_log=True,
        legend=("lastNotNull",),
    )


def own_faults() -> Json:
    """Return what went wrong inside loopscope."""
    return lines(
        "Faults and gaps of loopscope",
        "Since attach: faults inside loopscope, caught before they reached the loop; parts that switched themselves "
        "off; dropped reports; series left out at the bound of a label.",
        held(total(selected("loopscope.internal_errors")), "faults"),
        held(total(selected("loopscope.disabled_parts")), "parts switched off"),
        held(total(selected("loopscope.dropped_reports")), "dropped reports"),
        held(total(selected("loopscope.series_dropped")), "series left out"),
        unit="short",
        empty=_NO_AGENT,
        least_top=1,
        is_stepped=True,
        legend=("lastNotNull",),
        overrides=(paint("faults", SERIOUS), paint("parts switched off", WARNING)),
        links=(),
    )
