"""Metrics of gradients, weights, updates and activations, by layer."""

from __future__ import annotations

from .families import CLIP_STAGES, MAX_ACTIVATIONS, MAX_LAYERS, Metric, per_optimizer

__all__ = ["GRADIENT_METRICS"]

_MAGNITUDE_BUCKETS = tuple(
    2.0**exponent for exponent in (-48, -40, -32, -28, -24, -20, -16, -14, -12, -10, -8, -6, -4, -2, 0, 4, 8, 16)
)

GRADIENT_METRICS: tuple[Metric, ...] = (
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
        bound=per_optimizer(len(CLIP_STAGES)),
        help="Exact L2 norm of all gradients; pre_clip is there when the step was clipped.",
    ),
    Metric(
        name="loopscope.gradient.local_squares",
        kind="gauge",
        unit="",
        labels=("layer",),
        bound=MAX_LAYERS,
        instead_of="loopscope.gradient.norm",
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
        bound=per_optimizer(len(_MAGNITUDE_BUCKETS) + 3),
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
        name="loopscope.activation.dead_ratio",
        kind="gauge",
        unit="1",
        labels=("activation",),
        bound=MAX_ACTIVATIONS,
        is_opt_in=True,
        help="Share of units that have put out nothing for any of at least 128 rows up to the latest sampled step.",
    ),
    Metric(
        name="loopscope.activation.saturated_ratio",
        kind="gauge",
        unit="1",
        labels=("activation",),
        bound=MAX_ACTIVATIONS,
        is_opt_in=True,
        help="Share of elements at a flat end of their activation at the latest sampled step.",
    ),
    Metric(
        name="loopscope.activation.root_mean_square",
        kind="gauge",
        unit="",
        labels=("activation",),
        bound=MAX_ACTIVATIONS,
        is_opt_in=True,
        help="Root mean square of what the activations of the group put out at the latest sampled step.",
    ),
)
