"""Overview: is my run healthy?"""

from __future__ import annotations

from .boards import Links, board
from .colors import GOOD, NEUTRAL, SERIOUS, UNKNOWN, WARNING, steps, texts
from .glances import overhead_stat, recompilations_stat, syncs_stat
from .incidents import anomaly_timeline, incident_table, with_runbook
from .layout import Band, Row
from .native import Json
from .norms import global_norm, global_norms
from .panels import column, grid, lines, override, stat
from .queries import grouped, held, instant, latest, of_processes, or_none, rate, selected, table, total
from .settings import RuleSettings

__all__ = ["overview"]

_RUN = "run, agent, optimizer"
_NAME = "{{agent}} {{optimizer}} {{run}}"
_SHORT_NAME = "{{agent}} {{optimizer}}"
_NO_AGENT = "No agent was scraped in this time range: no step yet, a wrong choice above, or a target that is down."
_NOT_REPORTING = "not reporting"


def overview(settings: RuleSettings, grafana: str) -> Json:
    """Return the dashboard."""
    links = Links(settings.runbook_base_url)
    return board(
        name="overview",
        title="Overview",
        description="Is my run healthy? One line a run; ranks are brought together.",
        rows=(
            Row("Is it healthy?", (_first_stats(settings), _second_stats(links))),
            Row("What went wrong", (Band(10, (anomaly_timeline(), incident_table(links)), (8, 16)),)),
            Row("How it trains", (Band(9, (_loss(links), _norm(links))), Band(8, (_speed(), _step_time(), _rates())))),
            Row("What it was told of", (Band(9, (_anomaly_counts(links), _gaps())),)),
        ),
        grafana=grafana,
    )


def _first_stats(settings: RuleSettings) -> Band:
    age = f"time() - {total(selected('loopscope.last_step.timestamp'), 'max')}"
    stalled = int(settings.stalled_seconds)
    state = f"({age} > bool {stalled // 10}) + ({age} > bool {stalled})"
    return Band(
        4,
        (
            stat(
                "State",
                f"From the time since the last step of any chosen run: trains, slow after {stalled // 10} s, stalled "
                f"after {stalled} s, as the alert has it. A run that has ended is not scraped any more: not reporting.",
                instant(state),
                unit="none",
                empty=_NOT_REPORTING,
                mappings=texts({0: ("trains", GOOD), 1: ("slow", WARNING), 2: ("stalled", SERIOUS)}),
                has_trend=False,
            ),
            stat(
                "Open anomalies",
                "Kinds of anomalies, of severity warning or critical, that are open now, over all agents and ranks.",
                instant(total(selected("loopscope.anomaly.active"))),
                unit="suffix: open",
                empty=_NOT_REPORTING,
                thresholds=steps((None, GOOD), (1, SERIOUS)),
                mappings=texts({0: ("none", GOOD)}),
                has_trend=False,
            ),
            stat(
                "Last step",
                "Time since the last optimizer step of any chosen run. It stays where a run stands still or has ended.",
                instant(age),
                unit="s",
                empty=_NOT_REPORTING,
                thresholds=steps((None, GOOD), (stalled // 10, WARNING), (stalled, SERIOUS)),
                has_trend=False,
                decimals=0,
            ),
            *_progress(),
        ),
    )


def _progress() -> tuple[Json, ...]:
    return (
        stat(
            "Steps per second",
            "Optimizer steps a second, the mean over ranks.",
            held(grouped("avg", _RUN, rate("loopscope.steps")), _SHORT_NAME),
            unit="suffix:/s",
            empty=_NOT_REPORTING,
            thresholds=steps((None, NEUTRAL)),
        ),
        stat(
            "Epoch",
            "Epoch of the latest step, from 0.",
            held(grouped("max", _RUN, selected("loopscope.epoch")), _SHORT_NAME),
            unit="none",
            empty="no epoch yet",
            thresholds=steps((None, NEUTRAL)),
            has_trend=False,
        ),
        stat(
            "Loss",
            "Loss of the latest step, unscaled, the mean over ranks.",
            held(grouped("avg", _RUN, selected("loopscope.loss")), _SHORT_NAME),
            unit="none",
            empty="not seen",
            thresholds=steps((None, NEUTRAL)),
        ),
    )


def _second_stats(links: Links) -> Band:
    return Band(
        4,
        (
            stat(
                "Gradient norm",
                "L2 norm of all gradients at the latest step, after clipping; of FSDP shards, the root of the sum of "
                "squares.",
                held(global_norm(_RUN), _SHORT_NAME),
                unit="none",
                empty="not seen",
                thresholds=steps((None, NEUTRAL)),
            ),
            syncs_stat(links),
            recompilations_stat(links),
            stat(
                "Memory",
                "Resident memory of the training processes, of all ranks together.",
                held(f"sum ({of_processes('max', 'job, instance', selected('loopscope.process.memory'))})"),
                unit="bytes",
                empty=_NOT_REPORTING,
                thresholds=steps((None, NEUTRAL)),
                links=links.to("memory_creep"),
            ),
            overhead_stat(),
            stat(
                "Gaps",
                "Share of the steps whose report was dropped as the worker was behind; counts are carried over.",
                held(f"{total(rate('loopscope.dropped_reports'))} / {total(rate('loopscope.steps'))}"),
                unit="percentunit",
                empty=_NOT_REPORTING,
                thresholds=steps((None, GOOD), (0.01, WARNING), (0.05, SERIOUS)),
                mappings=texts({0: ("none", GOOD)}),
                decimals=1,
            ),
        ),
    )


def _loss(links: Links) -> Json:
    return lines(
        "Loss over time",
        "Loss of the latest step at each scrape, unscaled, the mean over ranks: as backward saw it, or as logged. "
        "Dashed: the mean of the last complete epoch.",
        held(grouped("avg", _RUN, selected("loopscope.loss")), _NAME),
        held(grouped("avg", _RUN, selected("loopscope.epoch.loss")), f"epoch mean {_NAME}"),
        unit="none",
        empty="No loss was seen: no step yet, or the loss does not come from backward() and is not logged.",
        legend=("lastNotNull", "min"),
        defaults={"min": None},
        overrides=(override("byFrameRefID", "B", {"custom.lineStyle": {"dash": [8, 6], "fill": "dash"}}),),
        links=links.to("loss_diverging", "nonfinite_loss"),
    )


def _norm(links: Links) -> Json:
    return lines(
        "Norm of the whole gradient",
        "L2 norm of all gradients at the latest step at each scrape. Dashed: before clipping, where the loop clips.",
        held(global_norms(_RUN), f"{{{{stage}}}} {_NAME}"),
        unit="sishort",
        empty="No gradient was seen yet.",
        is_log=True,
        legend=("lastNotNull", "max"),
        overrides=(override("byRegexp", "/^before clipping/", {"custom.lineStyle": {"dash": [8, 6], "fill": "dash"}}),),
        links=links.to("exploding_gradient", "gradient_spike"),
    )


def _speed() -> Json:
    return lines(
        "Steps per second over time",
        "Optimizer steps a second, the mean over ranks. A gap is a time without a scrape; 0 is a loop that stands "
        "still.",
        held(grouped("avg", _RUN, rate("loopscope.steps")), _NAME),
        unit="suffix:/s",
        empty=_NO_AGENT,
        legend=("mean",),
    )


def _step_time() -> Json:
    buckets = grouped("sum", "le", rate("loopscope.step.duration", suffix="_bucket"))
    return lines(
        "Step time",
        "Half, and 99 of 100, of all steps of all chosen runs take at most this long; from buckets, so an estimate.",
        held(f"histogram_quantile(0.5, {buckets})", "median"),
        held(f"histogram_quantile(0.99, {buckets})", "99 of 100"),
        unit="s",
        empty="No step was taken in this time range.",
        is_log=True,
        legend=("mean",),
    )


def _rates() -> Json:
    return lines(
        "Learning rate",
        "Of each parameter group (the first 8) of each optimizer.",
        held(
            grouped("max", "run, agent, optimizer, group", selected("loopscope.learning_rate")),
            "group {{group}} {{agent}} {{optimizer}}",
        ),
        unit="none",
        empty="No step was taken in this time range.",
        legend=("lastNotNull",),
        links=(),
    )


def _anomaly_counts(links: Links) -> Json:
    counts = latest(grouped("sum", "kind", selected("loopscope.anomalies")))
    return grid(
        "Events by kind, since attach",
        "Events of severity warning and critical, counted from attach to the end of the time range over all chosen "
        "runs. Kinds that never occurred are left out. Click a kind for what to do.",
        table(with_runbook(or_none(f"({counts} > 0)", "kind", known_by="loopscope.anomalies"))),
        columns=(
            column("kind", "Event", links=links.of_field),
            column("Value", "Count", unit="none", decimals=0, width=100),
            column("runbook", "Page", is_hidden=True),
        ),
        order=("kind", "Value", "runbook"),
        sort=("Count", True),
        empty=_NO_AGENT,
    )


def _gaps() -> Json:
    return lines(
        "Steps without a report, steps not taken",
        "Dropped reports: the worker was behind, counts are carried over. Skipped steps: a GradScaler met an "
        "overflow, or gradients were zeroed by hand without a step.",
        held(total(rate("loopscope.dropped_reports")), "dropped reports"),
        held(grouped("sum", "reason", rate("loopscope.skipped_steps")), "skipped by {{reason}}"),
        held(total(rate("loopscope.internal_errors")), "faults inside loopscope"),
        unit="suffix:/s",
        empty=_NO_AGENT,
        legend=("max",),
        least_top=0.1,
        overrides=(
            override("byName", "dropped reports", {"color": {"fixedColor": WARNING, "mode": "fixed"}}),
            override("byName", "faults inside loopscope", {"color": {"fixedColor": SERIOUS, "mode": "fixed"}}),
            override("byName", "skipped by manual", {"color": {"fixedColor": UNKNOWN, "mode": "fixed"}}),
        ),
    )
