"""Loop performance: where the time of a step goes, what makes the host wait, what is compiled again."""

from __future__ import annotations

from loopscope.catalog import PHASES

from .boards import Links, board
from .colors import GOOD, NEUTRAL, PHASE_COLORS, SERIOUS, WARNING, steps
from .compiling import break_table, compilations, compile_time, fallback_table, recompilation_table
from .costs import allocator, memory, overhead, overhead_by_part, own_faults, processor, sampling
from .glances import overhead_stat, recompilations_stat, syncs_stat
from .layout import Band, Row
from .native import Json
from .panels import histogram, lines, paint, stat
from .queries import grouped, held, named, of_run, per_step, rate, ratio, total
from .settings import RuleSettings
from .waiting import blocked, sync_table, syncs_by_kind

__all__ = ["performance"]

_NO_STEP = "No step was taken in this time range."
_NO_SYNC = (
    "No sync was seen. Without an accelerator nobody looks: attach(sync_device='cpu') counts what would wait on a GPU."
)
_NOT_COMPILED = "None since attach, or nothing is compiled with torch.compile."


def performance(settings: RuleSettings, grafana: str) -> Json:
    """Return the dashboard."""
    links = Links(settings.runbook_base_url)
    return board(
        name="performance",
        title="Loop performance",
        description="Where the time of a step goes, what makes the host wait for the device, what torch.compile does "
        "again and again, and what loopscope itself costs. All chosen runs, agents and ranks together.",
        rows=(
            Row("At a glance", (Band(4, _stats(links)),)),
            Row(
                "Time of a step",
                (
                    Band(9, (_quantiles(), _step_histogram())),
                    Band(9, (_phases(), _phase_shares(links), _throughput()), (8, 8, 8)),
                ),
            ),
            Row(
                "Waiting for the device",
                (Band(8, (syncs_by_kind(links), blocked())), Band(7, (sync_table(links),))),
            ),
            Row(
                "torch.compile",
                (
                    Band(8, (recompilation_table(links), break_table(links), fallback_table(links)), (9, 9, 6)),
                    Band(8, (compilations(), compile_time())),
                ),
            ),
            Row("Memory and processor", (Band(8, (memory(links), processor(), allocator())),)),
            Row(
                "What loopscope costs", (Band(8, (overhead(), overhead_by_part())), Band(8, (sampling(), own_faults())))
            ),
        ),
        grafana=grafana,
    )


def _stats(links: Links) -> tuple[Json, ...]:
    buckets = grouped("sum", "le", rate("loopscope.step.duration", suffix="_bucket"))
    waited = total(rate("loopscope.step.phase", 'phase="data_wait"'))
    blocked = f"{total(rate('loopscope.device.sync'))} / {total(rate('loopscope.step.phase'))}"
    return (
        stat(
            "Median step",
            "Half of all steps take at most this long; from buckets, so an estimate.",
            held(f"histogram_quantile(0.5, {buckets})"),
            unit="s",
            empty="no step",
            thresholds=steps((None, NEUTRAL)),
        ),
        stat(
            "Waiting for data",
            "Share of the time that the loop waits for its DataLoader. Half of it and more: the input is the "
            "bottleneck.",
            held(f"{waited} / {total(rate('loopscope.step.phase'))}"),
            unit="percentunit",
            empty="no step",
            thresholds=steps((None, GOOD), (0.2, WARNING), (0.5, SERIOUS)),
            decimals=1,
            links=links.to("input_bound"),
        ),
        syncs_stat(links),
        stat(
            "Blocked in syncs",
            "Share of the time that the host was blocked in syncs whose duration is known.",
            held(blocked),
            unit="percentunit",
            empty="none seen",
            thresholds=steps((None, GOOD), (0.05, WARNING), (0.2, SERIOUS)),
            decimals=1,
        ),
        recompilations_stat(links),
        overhead_stat(),
    )


def _quantiles() -> Json:
    buckets = grouped("sum", "le", rate("loopscope.step.duration", suffix="_bucket"))
    total, count = (of_run(rate("loopscope.step.duration", suffix=suffix)) for suffix in ("_sum", "_count"))
    return lines(
        "Step time",
        "Wall time from the end of one optimizer step to the end of the next, validation left out. Quantiles come "
        "from buckets and are estimates; the mean is exact.",
        held(f"histogram_quantile(0.5, {buckets})", "median"),
        held(f"histogram_quantile(0.95, {buckets})", "95 of 100"),
        held(f"histogram_quantile(0.99, {buckets})", "99 of 100"),
        held(f"sum ({total}) / sum ({count})", "mean"),
        unit="s",
        empty=_NO_STEP,
        is_log=True,
        legend=("lastNotNull", "max"),
        overrides=(
            paint("median", GOOD),
            paint("95 of 100", "yellow"),
            paint("99 of 100", WARNING),
            paint("mean", NEUTRAL),
        ),
    )


def _step_histogram() -> Json:
    buckets = rate("loopscope.step.duration", suffix="_bucket")
    return histogram(
        "Step times",
        "How many steps a second take how long. Two bands are two kinds of steps: a sequence length, a log line, a "
        "checkpoint.",
        held(grouped("sum", "le", buckets), "{{le}}"),
        unit="s",
        empty=_NO_STEP,
    )


def _phases() -> Json:
    return lines(
        "Time by phase of a step",
        "Mean time of a step by what the host does in it. Without syncs the host runs ahead of the device, and its "
        "phases are not those of the device.",
        held(per_step("phase", rate("loopscope.step.phase")), "{{phase}}"),
        unit="s",
        empty=_NO_STEP,
        stacking="normal",
        legend=("mean",),
        overrides=_phase_colors(),
    )


def _phase_shares(links: Links) -> Json:
    return lines(
        "Share of each phase",
        "The same as shares of the step.",
        held(ratio("phase", rate("loopscope.step.phase"), rate("loopscope.step.phase")), "{{phase}}"),
        unit="percentunit",
        empty=_NO_STEP,
        stacking="normal",
        legend=("mean",),
        defaults={"max": 1},
        overrides=_phase_colors(),
        links=links.to("input_bound"),
    )


def _throughput() -> Json:
    counted = ("steps", "samples", "tokens")
    return lines(
        "Throughput",
        "Steps, samples and tokens a second, of all chosen runs and ranks together. Samples come from batches or from "
        "agent.log(samples=...), tokens from agent.log(tokens=...) only.",
        held(" or ".join(named(total(rate(f"loopscope.{what}")), "what", what) for what in counted), "{{what}}"),
        unit="suffix:/s",
        empty=_NO_STEP,
        is_log=True,
        legend=("mean",),
    )


def _phase_colors() -> tuple[Json, ...]:
    return tuple(paint(phase, PHASE_COLORS[phase]) for phase in PHASES)
