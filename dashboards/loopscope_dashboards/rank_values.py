"""Values by rank: norms, losses and shards, and a table of what each rank said last."""

from __future__ import annotations

from .boards import Links
from .native import Json
from .norms import global_norm, layer_norm
from .panels import column, grid, lines
from .queries import grouped, held, latest, of_processes, rate, selected, table

__all__ = [
    "NAME",
    "NO_RANKS",
    "RANK",
    "layer_norms",
    "losses",
    "memory",
    "parts",
    "processor",
    "rank_norms",
    "rank_table",
    "whole_norm",
]

RANK = "agent, rank"
NAME = "rank {{rank}} {{agent}}"
_POST_CLIP = 'stage="post_clip"'
NO_RANKS = "No rank was scraped: the run is not distributed, or it is not chosen above."


def rank_norms() -> Json:
    """Return the norm that each rank has."""
    return lines(
        "Gradient norm by rank",
        "DDP: norm of the whole gradient, reduced, that each rank takes its step with; the same on every rank but for "
        "the moment of the scrape, so lines that keep apart are ranks that have diverged. FSDP: norm of each rank's "
        "shards.",
        held(global_norm(RANK), NAME),
        unit="sishort",
        empty=NO_RANKS,
        is_log=True,
        legend=("lastNotNull", "max"),
    )


def losses(links: Links) -> Json:
    """Return the loss of each rank."""
    return lines(
        "Loss by rank",
        "Loss of each rank's own batch at the latest step. They differ as the batches do; one that is always higher "
        "has other data.",
        held(grouped("avg", RANK, selected("loopscope.loss")), NAME),
        unit="none",
        empty=NO_RANKS,
        legend=("lastNotNull", "mean"),
        defaults={"min": None},
        links=links.to("loss_diverging"),
    )


def whole_norm() -> Json:
    """Return the norm that all ranks together have."""
    return lines(
        "Norm of the whole gradient",
        "FSDP: root of the sum of the squares of all shards, so choose all ranks. DDP: the largest of all ranks.",
        held(global_norm("agent"), "{{agent}}"),
        unit="sishort",
        empty=NO_RANKS,
        is_log=True,
        legend=("lastNotNull", "max"),
    )


def layer_norms() -> Json:
    """Return the same of each layer."""
    return lines(
        "Norm by layer, of all ranks",
        "The same of each layer.",
        held(layer_norm("agent, layer"), "{{layer}} {{agent}}"),
        unit="sishort",
        empty=NO_RANKS,
        is_log=True,
        legend=("lastNotNull",),
    )


def parts() -> Json:
    """Return how the squared norm is spread over the ranks."""
    window = "[$__rate_interval]"
    shards = f"avg_over_time({selected('loopscope.gradient.local_squares')}{window})"
    whole = f"avg_over_time({selected('loopscope.gradient.global_norm', _POST_CLIP)}{window}) ^ 2"
    own, all_of_them = (
        f"({grouped('sum', labels, shards)} or {grouped('sum', labels, f'({whole})')})" for labels in (RANK, "agent")
    )
    return lines(
        "Part of the sum of squares by rank",
        "FSDP: how much of the squared norm lies in each rank's shards. DDP: every rank has the whole gradient, and "
        "all parts are equal; a part that grows is a rank that has diverged.",
        held(f"{own} / on (agent) group_left () {all_of_them}", NAME),
        unit="percentunit",
        empty=NO_RANKS,
        legend=("mean",),
        defaults={"max": 1},
    )


def rank_table() -> Json:
    """Return a row for each rank."""
    labels = "rank, agent, instance"
    taken = grouped("sum", labels, rate("loopscope.steps"))
    spent, count = (
        grouped("sum", labels, rate("loopscope.step.duration", suffix=suffix)) for suffix in ("_sum", "_count")
    )
    waited = grouped("sum", labels, rate("loopscope.step.phase", 'phase="data_wait"'))
    inside = grouped("sum", labels, rate("loopscope.step.phase", 'phase="backward"'))
    values = (
        grouped("max", labels, selected("loopscope.step")),
        f"{spent} / {count}",
        f"{waited} / {taken}",
        f"{inside} / {taken}",
        grouped("max", labels, selected("loopscope.process.memory")),
        grouped("max", labels, selected("loopscope.overhead.ratio")),
    )
    return grid(
        "Latest values of each rank",
        "The latest values of each rank in the time range.",
        *(table(latest(value)) for value in values),
        columns=(
            column("rank", "Rank", width=70),
            column("agent", "Agent"),
            column("instance", "Address"),
            column("Value #A", "Step", unit="none", decimals=0),
            column("Value #B", "Step time", unit="s"),
            column("Value #C", "Waiting for data", unit="s"),
            column("Value #D", "In backward", unit="s"),
            column("Value #E", "Memory", unit="bytes"),
            column("Value #F", "Overhead", unit="percentunit", decimals=2),
        ),
        order=("rank", "agent", "instance", *(f"Value #{ref}" for ref in "ABCDEF")),
        sort=("Rank", False),
        empty=NO_RANKS,
    )


def memory() -> Json:
    """Return the memory of each rank."""
    return lines(
        "Memory by rank",
        "Resident memory of the process of each rank.",
        held(grouped("max", "rank", selected("loopscope.process.memory")), "rank {{rank}}"),
        unit="bytes",
        empty=NO_RANKS,
        legend=("lastNotNull", "max"),
    )


def processor() -> Json:
    """Return the processor time of each rank."""
    return lines(
        "Processor cores by rank",
        "CPU seconds a second of the process of each rank, all threads together: 1 is one core.",
        held(of_processes("max", "rank", rate("loopscope.process.cpu")), "rank {{rank}}"),
        unit="suffix: cores",
        empty=NO_RANKS,
        legend=("mean",),
    )
