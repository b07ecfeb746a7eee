"""Kinds of activation: where each puts out nothing, and where it is flat."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

__all__ = ["Kind", "kind_of"]

_FLAT = 0.01
"""An end is flat where the slope is below this share of the largest one: a hundredth of the gradient gets through."""


class Kind(NamedTuple):
    """Bounds on the output of an activation (on its input, where `reads_input`), NaN where there is none."""

    dead_below: float = math.nan
    """At and below it an element puts out nothing, and no gradient comes through."""
    flat_below: float = math.nan
    flat_above: float = math.nan
    reads_input: bool = False
    """Whether `dead_below` is a bound on the input: the output is small around zero as well."""

    @property
    def can_die(self) -> bool:
        """Whether there are inputs for which nothing comes out."""
        return not math.isnan(self.dead_below)

    @property
    def can_saturate(self) -> bool:
        """Whether it has a flat end."""
        return not (math.isnan(self.flat_below) and math.isnan(self.flat_above))


_RELU = Kind(dead_below=0.0)
_TANH_END = math.sqrt(1 - _FLAT)
"""The slope of tanh is 1 - y**2."""
_SIGMOID_END = (1 - math.sqrt(1 - _FLAT)) / 2
"""That of the sigmoid is y * (1 - y), a quarter at the most."""
_TANH = Kind(flat_below=-_TANH_END, flat_above=_TANH_END)
_SIGMOID = Kind(flat_below=_SIGMOID_END, flat_above=1 - _SIGMOID_END)
_SELU_SCALE = 1.0507009873554805 * 1.6732632423543772
"""Klambauer et al. 2017, arXiv:1706.02515; as in torch/nn/modules/activation.py."""


def _elu(module: Any) -> Kind:
    return Kind(flat_below=-float(module.alpha) * (1 - _FLAT))


def _from_input(bound: float) -> Callable[[Any], Kind]:
    """The slope is below 1 % of the largest; an input that was overwritten cannot be looked at."""
    return lambda module: Kind() if getattr(module, "inplace", False) else Kind(dead_below=bound, reads_input=True)


_BY_TYPE: Mapping[type[nn.Module], Callable[[Any], Kind]] = {
    nn.ReLU: lambda _: _RELU,
    nn.ReLU6: lambda _: Kind(dead_below=0.0, flat_above=6.0),
    nn.Hardtanh: lambda module: Kind(flat_below=float(module.min_val), flat_above=float(module.max_val)),
    nn.Threshold: lambda module: Kind(dead_below=0.0) if module.value == 0 and module.threshold >= 0 else Kind(),
    nn.GELU: _from_input(-4.0),
    nn.SiLU: _from_input(-8.0),
    nn.Mish: _from_input(-8.0),
    nn.Hardswish: _from_input(-3.0),
    nn.Sigmoid: lambda _: _SIGMOID,
    nn.Hardsigmoid: lambda _: Kind(flat_below=0.0, flat_above=1.0),
    nn.Tanh: lambda _: _TANH,
    nn.Softsign: lambda _: Kind(flat_below=-0.9, flat_above=0.9),
    nn.ELU: _elu,
    nn.CELU: _elu,
    nn.SELU: lambda _: Kind(flat_below=-_SELU_SCALE * (1 - _FLAT)),
    nn.LeakyReLU: lambda _: Kind(),
    nn.PReLU: lambda _: Kind(),
    nn.RReLU: lambda _: Kind(),
    nn.Softplus: lambda _: Kind(),
    nn.LogSigmoid: lambda _: Kind(),
    nn.Softshrink: lambda _: Kind(),
    nn.Hardshrink: lambda _: Kind(),
    nn.Tanhshrink: lambda _: Kind(),
}
"""Kinds without a bound have a norm only."""
_BY_NAME: Mapping[str, Kind] = {
    "relu": _RELU,
    "squaredrelu": _RELU,
    "relusquared": _RELU,
    "tanh": _TANH,
    "sigmoid": _SIGMOID,
}
"""Classes of libraries and users, by what is left of their names without `Activation`."""


def kind_of(module: nn.Module) -> Kind | None:
    """Return the kind of an activation module, None for any other."""
    for base in type(module).__mro__:
        make = _BY_TYPE.get(base)
        if make is not None:
            return make(module)
    if next(module.children(), None) is not None or next(module.parameters(recurse=False), None) is not None:
        return None
    return _BY_NAME.get(type(module).__name__.lower().removesuffix("activation").removesuffix("module"))
