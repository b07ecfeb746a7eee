"""How large gradient elements are, against what number formats bear."""

from __future__ import annotations

from .boards import Links
from .colors import WARNING
from .layers import NO_SAMPLE
from .native import Json
from .panels import histogram, lines, paint
from .queries import grouped, held, rate, selected, total

__all__ = ["loss_scale", "magnitudes", "underflow"]

_FLOAT16_SMALLEST = 2.0**-24
"""The smallest number of float16 (subnormal, IEEE 754 binary16), which is a bucket's bound."""


def magnitudes() -> Json:
    """Return how large gradient elements are."""
    buckets = rate("loopscope.gradient.magnitude", suffix="_bucket")
    return histogram(
        "Magnitudes of gradient elements",
        "How many of the sampled elements that are not zero lie in each range, over all layers; bounds are powers of "
        "two. A cloud that drifts down vanishes, one that touches 6e-8 is lost in float16.",
        held(grouped("sum", "le", buckets), "{{le}}"),
        unit="none",
        empty=NO_SAMPLE,
    )


def underflow(links: Links) -> Json:
    """Return how many of them float16 cannot hold."""
    lost = rate("loopscope.gradient.magnitude", f'le="{_FLOAT16_SMALLEST!r}"', suffix="_bucket")
    every = rate("loopscope.gradient.magnitude", suffix="_count")
    return lines(
        "Too small for float16",
        "Share of the sampled elements below 2^-24, the smallest number of float16. In float16 they would be zero "
        "without a GradScaler; float32 and bfloat16 do not care.",
        held(f"{total(lost)} / {total(every)}", "below 2^-24"),
        unit="percentunit",
        empty=NO_SAMPLE,
        legend=("lastNotNull",),
        defaults={"custom": {"fillOpacity": 10}},
        least_top=0.01,
        overrides=(paint("below 2^-24", WARNING),),
        links=links.to("underflow"),
    )


def loss_scale() -> Json:
    """Return the scale of the GradScaler."""
    scale = grouped("max", "optimizer", selected("loopscope.grad_scale"))
    steps = grouped("max", "optimizer", selected("loopscope.step"))
    return lines(
        "Scale of the loss",
        "What a GradScaler multiplies the loss with before backward, 1 where there is none. It halves at each "
        "overflow and doubles after 2,000 steps without.",
        held(f"{scale} or 0 * {steps} + 1", "scale {{optimizer}}"),
        unit="short",
        empty=NO_SAMPLE,
        is_log=True,
        is_stepped=True,
        legend=("lastNotNull", "min"),
    )
