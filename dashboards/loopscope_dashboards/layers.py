"""Layer by layer: the norm of each gradient, and what sampled steps say of it and of the weights."""

from __future__ import annotations

from .boards import Links
from .native import Json
from .norms import layer_norm
from .panels import lines
from .queries import grouped, held, selected

__all__ = [
    "LAYER",
    "NAME",
    "NO_GRADIENT",
    "NO_SAMPLE",
    "max_abs",
    "norms",
    "update_ratios",
    "weight_norms",
    "zero_ratios",
]

LAYER = "optimizer, layer"
NAME = "{{layer}} {{optimizer}}"
NO_GRADIENT = "No gradient was seen in this time range: no step yet, or another agent is chosen above."
NO_SAMPLE = "No step was sampled in this time range: the overhead budget decides when (see Loop performance)."


def norms(links: Links) -> Json:
    """Return the norm of each layer's gradient."""
    return lines(
        "Gradient norm",
        "L2 norm of each layer's gradient at the latest step at each scrape, unscaled, after clipping. Layers far "
        "below all others learn next to nothing; parallel lines are what one wants to see. m is a thousandth, µ a "
        "millionth.",
        held(layer_norm(LAYER), NAME),
        unit="sishort",
        empty=NO_GRADIENT,
        is_log=True,
        is_wide=True,
        legend=("lastNotNull", "max"),
        links=links.to("vanishing_gradient", "gradient_spike"),
    )


def update_ratios(links: Links) -> Json:
    """Return how far an update moves each layer's weights."""
    return lines(
        "Update over weights",
        "Norm of the last sampled update over the norm of the weights. About 0.1 % is usual; 20 % and more tears the "
        "weights apart, nearly nothing leaves them where they are.",
        held(grouped("max", LAYER, selected("loopscope.update.ratio")), NAME),
        unit="percentunit",
        empty=NO_SAMPLE,
        is_log=True,
        legend=("lastNotNull",),
        links=links.to("update_ratio", "frozen_layer"),
    )


def zero_ratios(links: Links) -> Json:
    """Return how much of each layer's gradient is zero."""
    return lines(
        "Share of zeros in the gradient",
        "Elements that are exactly zero, at the last sampled step. Embeddings and what follows a ReLU have many; all "
        "of them zero is a dead layer.",
        held(grouped("max", LAYER, selected("loopscope.gradient.zero_ratio")), NAME),
        unit="percentunit",
        empty=NO_SAMPLE,
        legend=("lastNotNull",),
        defaults={"max": 1},
        links=links.to("dead_layer"),
    )


def max_abs() -> Json:
    """Return the largest element of each layer's gradient."""
    return lines(
        "Largest gradient element",
        "The largest magnitude in each layer's gradient at the last sampled step. 65,504 is the largest number of "
        "float16.",
        held(grouped("max", LAYER, selected("loopscope.gradient.max_abs")), NAME),
        unit="sishort",
        empty=NO_SAMPLE,
        is_log=True,
        legend=("lastNotNull",),
    )


def weight_norms() -> Json:
    """Return the norm of each layer's weights."""
    return lines(
        "Norm of the weights",
        "L2 norm of each layer's weights at the last sampled step. Not there for shards of FSDP.",
        held(grouped("max", LAYER, selected("loopscope.weight.norm")), NAME),
        unit="none",
        empty=NO_SAMPLE,
        legend=("lastNotNull",),
        defaults={"min": None},
    )
