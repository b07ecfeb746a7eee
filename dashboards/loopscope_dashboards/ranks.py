"""Ranks: which one is behind, which one differs."""

from __future__ import annotations

from .boards import Links, board
from .colors import GOOD, NEUTRAL, SERIOUS, WARNING, steps
from .layout import Band, Row
from .native import Json
from .panels import lines, stat
from .queries import grouped, held, instant, rate, selected
from .rank_values import (
    NAME,
    NO_RANKS,
    RANK,
    layer_norms,
    losses,
    memory,
    parts,
    processor,
    rank_norms,
    rank_table,
    whole_norm,
)
from .settings import RuleSettings

__all__ = ["ranks"]


def ranks(settings: RuleSettings, grafana: str) -> Json:
    """Return the dashboard."""
    links = Links(settings.runbook_base_url)
    return board(
        name="ranks",
        title="Ranks",
        description="Which rank is behind and which one differs, of distributed runs. Choose one run: ranks of several "
        "runs are told apart by their agents only.",
        rows=(
            Row("Is a rank behind?", (Band(4, _stats()),)),
            Row(
                "Time",
                (
                    Band(9, (_step_time(), _own_work(), _backward())),
                    Band(9, (_skew(), _data_wait(links), _progress())),
                ),
            ),
            Row(
                "Gradients and loss",
                (
                    Band(9, (rank_norms(), losses(links))),
                    Band(9, (whole_norm(), layer_norms(), parts())),
                ),
            ),
            Row("Rank by rank", (Band(9, (rank_table(),)), Band(8, (memory(), processor(), _overhead())))),
        ),
        grafana=grafana,
        needs_rank=True,
    )


def _mean_step() -> str:
    total, count = (
        grouped("sum", RANK, rate("loopscope.step.duration", suffix=suffix)) for suffix in ("_sum", "_count")
    )
    return f"({total} / {count})"


def _phase(*phases: str) -> str:
    spent = grouped("sum", RANK, rate("loopscope.step.phase", f'phase=~"{"|".join(phases)}"'))
    return f"({spent} / {grouped('sum', RANK, rate('loopscope.steps'))})"


def _work() -> str:
    return _phase("data_wait", "forward", "optimizer", "other")


def _stats() -> tuple[Json, ...]:
    return (
        stat(
            "Ranks",
            "Ranks that are scraped now.",
            instant(f"count ({grouped('max', 'rank', selected('loopscope.run.info'))})"),
            unit="none",
            empty="none",
            thresholds=steps((None, NEUTRAL)),
            has_trend=False,
        ),
        stat(
            "Slowest rank",
            "The rank that does most outside of backward, where DDP waits for the others: they wait for this one. Its "
            "own time a step is in the panels below.",
            instant(f"topk by (agent) (1, {_work()})", NAME),
            unit="s",
            empty="none",
            thresholds=steps((None, WARNING)),
            has_trend=False,
            text="name",
        ),
        stat(
            "It works longer by",
            "Time a step that the slowest rank does more outside of backward than the mean of all ranks: what the "
            "others wait for.",
            held(f"max by (agent) ({_work()}) - avg by (agent) ({_work()})", "{{agent}}"),
            unit="s",
            empty="none",
            thresholds=steps((None, NEUTRAL)),
        ),
        stat(
            "Which is of a step",
            "The same as a share of the mean step: what a run without a straggler could gain.",
            held(
                f"(max by (agent) ({_work()}) - avg by (agent) ({_work()})) / avg by (agent) ({_mean_step()})",
                "{{agent}}",
            ),
            unit="percentunit",
            empty="none",
            thresholds=steps((None, GOOD), (0.1, WARNING), (0.3, SERIOUS)),
            decimals=1,
        ),
        *_lags(),
    )


def _lags() -> tuple[Json, ...]:
    apart = f"max by (agent) ({_steps()}) - min by (agent) ({_steps()})"
    age = f"time() - {grouped('max', RANK, selected('loopscope.last_step.timestamp'))}"
    return (
        stat(
            "Steps apart",
            "Step of the foremost rank less that of the hindmost one, as scraped: ranks are scraped at different "
            "moments, so that a few steps mean nothing, and a number that grows means a rank that has left the others.",
            held(apart, "{{agent}}"),
            unit="suffix: steps",
            empty="none",
            thresholds=steps((None, NEUTRAL)),
            decimals=0,
        ),
        stat(
            "Longest idle",
            "Time since the last step of the rank that has gone without one for longest.",
            instant(f"topk (1, {age})", NAME),
            unit="s",
            empty="none",
            thresholds=steps((None, GOOD), (60, WARNING), (300, SERIOUS)),
            has_trend=False,
            decimals=1,
        ),
    )


def _steps() -> str:
    return grouped("max", RANK, selected("loopscope.step"))


def _by_rank(title: str, description: str, expression: str, unit: str, links: list[Json] | None = None) -> Json:
    return lines(
        title,
        description,
        held(expression, NAME),
        unit=unit,
        empty=NO_RANKS,
        legend=("mean",),
        links=links or (),
    )


def _step_time() -> Json:
    return _by_rank(
        "Step time by rank",
        "Mean wall time of a step. Ranks that wait for each other all have that of the slowest one.",
        _mean_step(),
        "s",
    )


def _own_work() -> Json:
    return _by_rank(
        "Time outside of backward by rank",
        "Data, forward, optimizer and the rest of the loop, a step. DDP waits in backward: the highest line is the "
        "rank that the others wait for. FSDP waits in forward as well.",
        _work(),
        "s",
    )


def _backward() -> Json:
    return _by_rank(
        "Time in backward by rank",
        "Backward with the reduction of the gradients in it, a step: the lowest line is the rank that never waits.",
        _phase("backward"),
        "s",
    )


def _skew() -> Json:
    return lines(
        "Skew between the ranks",
        "Time outside of backward of the slowest rank less that of the fastest one, a step, and the same of whole "
        "steps.",
        held(f"max by (agent) ({_work()}) - min by (agent) ({_work()})", "outside of backward {{agent}}"),
        held(f"max by (agent) ({_mean_step()}) - min by (agent) ({_mean_step()})", "whole step {{agent}}"),
        unit="s",
        empty=NO_RANKS,
        legend=("mean",),
    )


def _data_wait(links: Links) -> Json:
    return _by_rank(
        "Waiting for data by rank",
        "Time that a step waits for the DataLoader. One rank with a slow disk holds up all of them.",
        _phase("data_wait"),
        "s",
        links.to("input_bound"),
    )


def _progress() -> Json:
    return _by_rank(
        "Steps per second by rank",
        "Optimizer steps a second. Lines that part are ranks that no longer train together.",
        grouped("sum", RANK, rate("loopscope.steps")),
        "suffix:/s",
    )


def _overhead() -> Json:
    return _by_rank(
        "Overhead by rank",
        "CPU time of loopscope over the time of the loop.",
        grouped("max", RANK, selected("loopscope.overhead.ratio")),
        "percentunit",
    )
