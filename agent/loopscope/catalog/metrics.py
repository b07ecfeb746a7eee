"""Every metric, in the order of the metrics page."""

from __future__ import annotations

from .activity import ACTIVITY_METRICS
from .families import (
    CLIP_STAGES,
    EPOCH_STATISTICS,
    LOSS_SOURCES,
    MAX_LAYERS,
    MAX_OPTIMIZERS,
    MAX_PARTS,
    OVERHEAD_PARTS,
    PHASES,
    SKIP_REASONS,
    Metric,
)

__all__ = ["METRICS"]

_STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MAGNITUDE_BUCKETS = tuple(
    2.0**exponent for exponent in (-48, -40, -32, -28, -24, -20, -16, -14, -12, -10, -8, -6, -4, -2, 0, 4, 8, 16)
)


def _per_optimizer(count: int = 1) -> int:
    return (MAX_OPTIMIZERS + 1) * count


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
        bound=_per_optimizer(),
        help="Optimizer steps taken, counted from attach (dropped reports included).",
    ),
    Metric(
        name="loopscope.skipped_steps",
        kind="counter",
        unit="{step}",
        labels=("reason",),
        values=SKIP_REASONS,
        bound=_per_optimizer(len(SKIP_REASONS)),
        help="Steps that did not happen: skipped by a GradScaler, or gradients zeroed by hand without a step.",
    ),
    Metric(
        name="loopscope.micro_steps",
        kind="counter",
        unit="{step}",
        bound=_per_optimizer(),
        help="Backward passes, several a step under gradient accumulation.",
    ),
    Metric(
        name="loopscope.samples",
        kind="counter",
        unit="{sample}",
        bound=_per_optimizer(),
        help="Samples seen, from the batches of the DataLoader or from agent.log(samples=...).",
    ),
    Metric(
        name="loopscope.tokens",
        kind="counter",
        unit="{token}",
        bound=_per_optimizer(),
        help="Tokens seen, from agent.log(tokens=...).",
    ),
    Metric(
        name="loopscope.step",
        kind="gauge",
        unit="{step}",
        bound=_per_optimizer(),
        help="Number of the latest step that was reported, initial_step included.",
    ),
    Metric(
        name="loopscope.epoch", kind="gauge", unit="{epoch}", bound=_per_optimizer(), help="Epoch of the latest step."
    ),
    Metric(
        name="loopscope.loss",
        kind="gauge",
        unit="",
        labels=("source",),
        values=LOSS_SOURCES,
        bound=_per_optimizer(len(LOSS_SOURCES)),
        help="Loss of the latest step, unscaled, summed over its micro-steps (source=backward) or as logged.",
    ),
    Metric(
        name="loopscope.learning_rate",
        kind="gauge",
        unit="",
        labels=("group",),
        bound=_per_optimizer(8),
        help="Learning rate of each parameter group (the first 8).",
    ),
    Metric(
        name="loopscope.step.duration",
        kind="histogram",
        unit="s",
        buckets=_STEP_BUCKETS,
        bound=_per_optimizer(len(_STEP_BUCKETS) + 3),
        help="Wall time from the end of one optimizer step to the end of the next, validation left out.",
    ),
    Metric(
        name="loopscope.step.phase",
        kind="counter",
        unit="s",
        labels=("phase",),
        values=PHASES,
        bound=_per_optimizer(len(PHASES)),
        help="Time spent by phase of the step.",
    ),
    Metric(
        name="loopscope.last_step.timestamp",
        kind="gauge",
        unit="s",
        bound=_per_optimizer(),
        help="Unix time at which the latest optimizer step ended.",
    ),
    Metric(
        name="loopscope.gradient.norm",
        kind="gauge",
        unit="",
        labels=("layer",),
        bound=MAX_LAYERS,
        help="Exact L2 norm of the layer's gradient at the latest step: unscaled, after clipping.",
    ),
    Metric(
        name="loopscope.gradient.global_norm",
        kind="gauge",
        unit="",
        labels=("stage",),
        values=CLIP_STAGES,
        bound=_per_optimizer(len(CLIP_STAGES)),
        help="Exact L2 norm of all gradients; pre_clip is there when the step was clipped.",
    ),
    Metric(
        name="loopscope.gradient.local_squares",
        kind="gauge",
        unit="",
        labels=("layer",),
        bound=MAX_LAYERS,
        help="Sum of squares of this rank's shard of the layer's gradient (FSDP2); over all ranks, the squared norm.",
    ),
    Metric(
        name="loopscope.gradient.max_abs",
        kind="gauge",
        unit="",
        labels=("layer",),
        bound=MAX_LAYERS,
        help="Largest magnitude in the layer's gradient at the latest sampled step (exact).",
    ),
    Metric(
        name="loopscope.gradient.zero_ratio",
        kind="gauge",
        unit="1",
        labels=("layer",),
        bound=MAX_LAYERS,
        help="Share of exactly zero elements in the layer's gradient at the latest sampled step (strided sample).",
    ),
    Metric(
        name="loopscope.gradient.nonfinite",
        kind="counter",
        unit="{element}",
        labels=("layer",),
        bound=MAX_LAYERS,
        help="NaN or infinite gradient elements, skipped steps included.",
    ),
    Metric(
        name="loopscope.gradient.magnitude",
        kind="histogram",
        unit="",
        buckets=_MAGNITUDE_BUCKETS,
        bound=_per_optimizer(len(_MAGNITUDE_BUCKETS) + 3),
        help="Magnitudes of sampled non-zero gradient elements of all layers, buckets at powers of two.",
    ),
    Metric(
        name="loopscope.weight.norm",
        kind="gauge",
        unit="",
        labels=("layer",),
        bound=MAX_LAYERS,
        help="Exact L2 norm of the layer's weights at the latest sampled step.",
    ),
    Metric(
        name="loopscope.update.ratio",
        kind="gauge",
        unit="1",
        labels=("layer",),
        bound=MAX_LAYERS,
        help="Norm of the update over norm of the weights at the latest sampled step (strided sample).",
    ),
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
        bound=_per_optimizer(2),
        help="Mean loss over all steps of the last complete epoch or window.",
    ),
    Metric(
        name="loopscope.epoch.duration",
        kind="gauge",
        unit="s",
        bound=_per_optimizer(),
        help="Duration of the last complete epoch or window.",
    ),
    Metric(
        name="loopscope.anomalies",
        kind="counter",
        unit="{event}",
        labels=("kind",),
        bound=64,
        help="Events of severity warning or critical, by kind.",
    ),
    Metric(
        name="loopscope.grad_scale",
        kind="gauge",
        unit="",
        bound=_per_optimizer(),
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
