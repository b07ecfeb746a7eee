"""Operators: which of their arguments they write to, as their schemas say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload

__all__ = ["Operation", "Traits", "run", "tensors_in", "traits_of", "written"]

_RESCALING = frozenset({
    "mul_", "div_", "divide_", "multiply_", "true_divide_", "floor_divide_", "remainder_", "fmod_", "pow_", "neg_",
    "abs_", "sign_", "sgn_", "exp_", "expm1_", "log_", "log1p_", "log2_", "log10_", "sqrt_", "rsqrt_", "square_",
    "reciprocal_", "sin_", "cos_", "tan_", "sinh_", "cosh_", "tanh_", "sigmoid_", "erf_", "softplus_", "round_",
    "floor_", "ceil_", "trunc_", "frac_", "clamp_", "clip_", "clamp_min_", "clamp_max_", "relu_", "leaky_relu_",
    "elu_", "celu_", "silu_", "gelu_", "hardtanh_", "hardswish_", "hardsigmoid_", "mish_", "threshold_", "rrelu_",
    "renorm_", "lerp_", "cumsum_", "cumprod_", "logit_", "xlogy_", "_foreach_mul_", "_foreach_div_",
})  # fmt: skip
"""What depends on the old value by another derivative than 1: without a node of its own the gradient is wrong."""


class Traits(NamedTuple):
    """What a schema says of an operator."""

    name: str
    writes: tuple[tuple[int, str], ...]
    """Position and name of the arguments that it writes to."""
    is_foreach: bool
    """Whether it writes to lists of tensors, its first argument."""
    is_view: bool
    is_rescaling: bool
    is_pure: bool
    """Whether it can be run once more without a trace: it writes nothing and draws no random numbers."""


_SEQUENCES = (list, tuple)
_traits: dict[int, tuple[Any, Traits]] = {}
"""With the overload, so that no other gets its identity."""


class Operation(NamedTuple):
    """An operator with what it is called with."""

    function: Any
    traits: Traits
    args: Sequence[Any]
    keywords: Mapping[str, Any]


def traits_of(function: OpOverload) -> Traits:
    """Return the traits of an overload."""
    known = _traits.get(id(function))  # by identity: hashing an overload runs Python code of torch's
    if known is None:
        known = _traits[id(function)] = (function, _read_traits(function))
    return known[1]


def _read_traits(function: OpOverload) -> Traits:
    schema = function._schema
    writes = tuple(
        (position, argument.name)
        for position, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    is_view = any(returned.alias_info is not None and not returned.alias_info.is_write for returned in schema.returns)
    short = schema.name.rpartition("::")[2]
    tags = {tag.name for tag in getattr(function, "tags", ())}
    is_pure = not writes and "nondeterministic_seeded" not in tags
    return Traits(
        schema.name,
        writes,
        is_foreach=bool(writes) and short.startswith("_foreach_"),
        is_view=is_view,
        is_rescaling=bool(writes) and short in _RESCALING,
        is_pure=is_pure,
    )


def run(function: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Run an operator from within a dispatch mode, such that PyTorch's own check sees what it has written to.

    The foreach operators on the CPU, and those for mixed tensors, leave counting versions to the operators that they
    call, for which it is switched off below any mode (torch 2.13): it is made up for here.
    """
    if not isinstance(function, OpOverload) or not traits_of(function).is_foreach:
        return function(*args, **keywords)
    before = [(tensor, tensor._version) for tensor in tensors_in(args[:1]) if not tensor.is_inference()]
    result = function(*args, **keywords)
    lost = [tensor for tensor, version in before if tensor._version == version]
    if lost:
        torch.autograd.graph.increment_version(lost)
    return result


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors that have a storage among the values and in lists among them."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            if value.layout is torch.strided:
                found.append(value)
        elif isinstance(value, _SEQUENCES):
            found += tensors_in(value)
    return found


def written(traits: Traits, args: Sequence[Any], keywords: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors that the operator writes to."""
    return tensors_in(
        args[position] if position < len(args) else keywords.get(name) for position, name in traits.writes
    )
