"""Every metric, in the order of the metrics page."""

from __future__ import annotations

from .activity import ACTIVITY_METRICS
from .families import (
    EPOCH_STATISTICS,
    HEALTH_STATES,
    LOSS_SOURCES,
    MAX_INCIDENTS,
    MAX_KINDS,
    MAX_LAYERS,
    MAX_PARTS,
    OVERHEAD_PARTS,
    PHASES,
    SKIP_REASONS,
    Metric,
    per_optimizer,
)
from .gradients import GRADIENT_METRICS

__all__ = ["METRICS"]

_STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


METRICS: tuple[Metric, ...] = (
    Metric(
        name="loopscope.run.info",
        kind="gauge",
        unit="",
        labels=("run", "model", "torch", "python", "loopscope"),
        help="Constant 1; its labels say which run this is.",
    ),
    Metric(
        name="loopscope.steps",
        kind="counter",
        unit="{step}",
        bound=per_optimizer(),
        help="Optimizer steps taken, counted from attach (dropped reports included).",
    ),
    Metric(
        name="loopscope.skipped_steps",
        kind="counter",
        unit="{step}",
        labels=("reason",),
        values=SKIP_REASONS,
        bound=per_optimizer(len(SKIP_REASONS)),
        help="Steps that did not happen: skipped by a GradScaler, or gradients zeroed by hand without a step.",
    ),
    Metric(
        name="loopscope.micro_steps",
        kind="counter",
        unit="{step}",
        bound=per_optimizer(),
        help="Backward passes, several a step under gradient accumulation.",
    ),
    Metric(
        name="loopscope.samples",
        kind="counter",
        unit="{sample}",
        bound=per_optimizer(),
        help="Samples seen, from the batches of the DataLoader or from agent.log(samples=...).",
    ),
    Metric(
        name="loopscope.tokens",
        kind="counter",
        unit="{token}",
        bound=per_optimizer(),
        help="Tokens seen, from agent.log(tokens=...).",
    ),
    Metric(
        name="loopscope.step",
        kind="gauge",
        unit="{step}",
        bound=per_optimizer(),
        help="Number of the latest step that was reported, initial_step included.",
    ),
    Metric(
        name="loopscope.epoch", kind="gauge", unit="{epoch}", bound=per_optimizer(), help="Epoch of the latest step."
    ),
    Metric(
        name="loopscope.loss",
        kind="gauge",
        unit="",
        labels=("source",),
        values=LOSS_SOURCES,
        bound=per_optimizer(len(LOSS_SOURCES)),
        help="Loss of the latest step, unscaled, summed over its micro-steps (source=backward) or as logged.",
    ),
    Metric(
        name="loopscope.learning_rate",
        kind="gauge",
        unit="",
        labels=("group",),
        bound=per_optimizer(8),
        help="Learning rate of each parameter group (the first 8).",
    ),
    Metric(
        name="loopscope.step.duration",
        kind="histogram",
        unit="s",
        buckets=_STEP_BUCKETS,
        bound=per_optimizer(len(_STEP_BUCKETS) + 3),
        help="Wall time from the end of one optimizer step to the end of the next, validation left out.",
    ),
    Metric(
        name="loopscope.step.phase",
        kind="counter",
        unit="s",
        labels=("phase",),
        values=PHASES,
        bound=per_optimizer(len(PHASES)),
        help="Time spent by phase of the step.",
    ),
    Metric(
        name="loopscope.last_step.timestamp",
        kind="gauge",
        unit="s",
        bound=per_optimizer(),
        help="Unix time at which the latest optimizer step ended.",
    ),
    *GRADIENT_METRICS,
    Metric(
        name="loopscope.epoch.gradient_norm",
        kind="gauge",
        unit="",
        labels=("layer", "stat"),
        values=EPOCH_STATISTICS,
        bound=MAX_LAYERS * len(EPOCH_STATISTICS),
        help="Gradient norm of the layer over all steps of the last complete epoch or window.",
    ),
    Metric(
        name="loopscope.epoch.loss",
        kind="gauge",
        unit="",
        labels=("weighting",),
        values=("samples", "batches"),
        bound=per_optimizer(2),
        help="Mean loss over all steps of the last complete epoch or window.",
    ),
    Metric(
        name="loopscope.epoch.duration",
        kind="gauge",
        unit="s",
        bound=per_optimizer(),
        help="Duration of the last complete epoch or window.",
    ),
    Metric(
        name="loopscope.anomalies",
        kind="counter",
        unit="{event}",
        labels=("kind",),
        bound=MAX_KINDS,
        help="Events of severity warning or critical, by kind.",
    ),
    Metric(
        name="loopscope.anomaly.active",
        kind="gauge",
        unit="",
        labels=("kind",),
        bound=MAX_KINDS,
        help="Whether an anomaly of this kind, warning or critical, is open (1) or not (0); kinds that are events of a "
        "moment (a recompilation, an in-place conflict) never are.",
    ),
    Metric(
        name="loopscope.incident.info",
        kind="gauge",
        unit="",
        labels=("kind", "layer"),
        bound=MAX_INCIDENTS,
        help="Constant 1 for each open anomaly; its labels say what and in which layer (empty for the whole loop).",
    ),
    Metric(
        name="loopscope.layer.health",
        kind="gauge",
        unit="",
        labels=("layer", "state"),
        values=HEALTH_STATES,
        bound=MAX_LAYERS * len(HEALTH_STATES),
        help="The state that the layer is in at present (1), and the others (0).",
    ),
    Metric(
        name="loopscope.grad_scale",
        kind="gauge",
        unit="",
        bound=per_optimizer(),
        help="Scale of the GradScaler at the latest step.",
    ),
    *ACTIVITY_METRICS,
    Metric(
        name="loopscope.overhead.ratio",
        kind="gauge",
        unit="1",
        help="Our own CPU time (hooks, worker, server) over the loop's own time.",
    ),
    Metric(
        name="loopscope.overhead",
        kind="counter",
        unit="s",
        labels=("probe",),
        values=OVERHEAD_PARTS,
        bound=len(OVERHEAD_PARTS),
        help="Our own CPU time by part.",
    ),
    Metric(
        name="loopscope.sample.interval",
        kind="gauge",
        unit="{step}",
        help="Every how many steps the dear statistics are taken, as the overhead budget allows.",
    ),
    Metric(
        name="loopscope.dropped_reports",
        kind="counter",
        unit="{report}",
        help="Step reports dropped because the worker was behind; steps and non-finite counts are carried over.",
    ),
    Metric(
        name="loopscope.internal_errors",
        kind="counter",
        unit="{error}",
        labels=("part",),
        bound=MAX_PARTS,
        help="Faults inside loopscope, each caught before it reached the loop.",
    ),
    Metric(
        name="loopscope.disabled_parts",
        kind="gauge",
        unit="{part}",
        help="Parts of loopscope that switched themselves off after too many faults.",
    ),
    Metric(
        name="loopscope.series_dropped",
        kind="counter",
        unit="{series}",
        help="Series left out because a label was at its bound.",
    ),
    Metric(name="loopscope.process.memory", kind="gauge", unit="By", help="Resident memory of the training process."),
    Metric(
        name="loopscope.process.cpu", kind="counter", unit="s", help="CPU time of the training process, all threads."
    ),
)
