"""Remedies: what to write instead, from the source line that wrote in place; pure functions."""

from __future__ import annotations

import ast
import re

from .incidents import Cause, Incident

__all__ = ["remedy", "rewritten"]

_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.MatMult: "@", ast.Mod: "%",
    ast.FloorDiv: "//", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
}  # fmt: skip
_WITHOUT_TWIN = frozenset({"copy_", "zero_", "fill_", "set_", "normal_", "uniform_", "random_", "bernoulli_"})
_MASK = re.compile(r"mask|==|!=|<|>|~|isnan|isinf|bool|\b(?:is|has)_", re.IGNORECASE)
_MODULES = frozenset({"torch", "F", "nn.functional", "torch.nn.functional"})
_BY_CAUSE: dict[Cause, str] = {
    "hook": "return a new gradient from the hook (return grad * 2) and leave its argument as it is",
    "own_hook": "return a new gradient from the hook (return grad * 2) and leave its argument as it is",
    "repeated": "update buffers and counters outside of the checkpointed region, or only in its first run",
    "misread": "update buffers and counters outside of the checkpointed region, or only in its first run",
    "stale": "leave what a checkpointed region reads as it is until its backward is done",
    "kept": "keep tensors with ctx.save_for_backward, which checks them, and clone what is written to later",
}
_BY_LIBRARY: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"torch/optim/"),
        (
            "the step changes weights that a backward still to come needs: do all backward passes before the step, or "
            "run the forward again; carry state over with h = h.detach(), and train a GAN's discriminator on "
            "fake.detach()"
        ),
    ),
    (
        re.compile(r"torch/nn/modules/(?:batchnorm|instancenorm)\.py"),
        (
            "the second forward updates the running statistics that the first has saved: do one forward over both "
            "batches, or backward between them"
        ),
    ),
    (re.compile(r"torch/nn/modules/(?:activation|dropout)\.py"), "build the module with inplace=False"),
)
_MAX_NORM = (
    "max_norm rescales the embedding's weight at each call: use embedding.weight.clone(), or renorm it once before the "
    "forward, under torch.no_grad()"
)
_DATA = (
    "writing through .data bypasses autograd's check: write under torch.no_grad(), after the backward that needs the "
    "values"
)
_WEIGHT = "write to weights when no backward needs them any more: after it, before the next forward"


def remedy(incident: Incident, text: str) -> str:
    """Return what to do about an incident whose write stands in the source line `text`."""
    library = "" if incident.place is None else incident.place.library or ""
    known = _BY_CAUSE.get(incident.cause)
    if known is not None:
        return known
    for pattern, advice in _BY_LIBRARY:
        if pattern.match(library):
            return advice
    for is_it, advice in (
        ("renorm" in incident.operator, _MAX_NORM),
        (".data" in text, _DATA),
        (incident.is_leaf, _WEIGHT),
    ):
        if is_it:
            return advice
    better = rewritten(text)
    if incident.cause == "rescaled":
        return f"let autograd see it{f': {better}' if better else ''}, or work on a clone"
    return f"write {better}" if better is not None else _by_operator(incident, text)


def _by_operator(incident: Incident, text: str) -> str:
    short = incident.operator.rpartition("::")[2]
    where = f", or give {incident.saved_operator} a clone()" if incident.saved_operator else ""
    if "out=" in text:
        return f"leave out= away, so that the result is a new tensor{where}"
    if short in {"copy_", "fill_", "zero_"}:
        return f"write to it after the backward that needs it{where}"
    return f"use {short.strip('_')} without the underscore or inplace=True, which makes a new tensor{where}"


def rewritten(text: str) -> str | None:
    """Return the statement out of place, in backticks; None where it is none of the known forms."""
    statement = _parse(text)
    if statement is None:
        return None
    if isinstance(statement, ast.AugAssign):
        return _without_augmented(statement)
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        return _without_assignment(statement.targets[0], ast.unparse(statement.value))
    return _without_calls(statement)


def _parse(text: str) -> ast.stmt | None:
    for candidate in (text, f"{text} pass", text.rstrip().rstrip(":,)")):
        try:
            body = ast.parse(candidate).body
        except (SyntaxError, ValueError):
            continue
        if len(body) == 1:
            return body[0]
    return None


def _without_augmented(statement: ast.AugAssign) -> str:
    target, value = ast.unparse(statement.target), ast.unparse(statement.value)
    if not isinstance(statement.value, ast.Name | ast.Call | ast.Attribute | ast.Subscript | ast.Constant):
        value = f"({value})"
    better = f"`{target} = {target} {_OPERATORS[type(statement.op)]} {value}`"
    if isinstance(statement.target, ast.Subscript):
        base = ast.unparse(statement.target.value)
        return f"{better}, and where {base} is a tensor itself, `{base} = {base}.clone()` before it"
    return better


def _without_assignment(target: ast.Subscript, value: str) -> str:
    base, index = ast.unparse(target.value), ast.unparse(target.slice)
    if _MASK.search(index):
        return f"`{base} = torch.where({index}, {value}, {base})`"
    return (
        f"to a copy, `{base} = {base}.clone()` before it, or collect the parts and use torch.stack, torch.cat or "
        f"{base}.index_put()"
    )


def _without_calls(statement: ast.stmt) -> str | None:
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call) and _is_in_place(node)]
    if not calls:
        return None
    target = _target(calls[0]) if isinstance(statement, ast.Expr) and statement.value is calls[0] else None
    for call in calls:
        if isinstance(call.func, ast.Attribute):
            call.func.attr = call.func.attr.rstrip("_")
        elif isinstance(call.func, ast.Name):
            call.func.id = call.func.id.rstrip("_")
        call.keywords = [keyword for keyword in call.keywords if keyword.arg != "inplace"]
    better = ast.unparse(statement)
    return f"`{better}`" if target is None else f"`{target} = {better}`"


def _is_in_place(call: ast.Call) -> bool:
    is_marked = any(
        keyword.arg == "inplace" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        for keyword in call.keywords
    )
    name = ""
    if isinstance(call.func, ast.Attribute):
        name = call.func.attr
    elif isinstance(call.func, ast.Name):
        name = call.func.id
    return is_marked or (name.endswith("_") and not name.endswith("__") and name not in _WITHOUT_TWIN)


def _target(call: ast.expr) -> str | None:
    """Return what a chain of calls begins with: `x` of `x.mul_(2).add_(1)`, the first argument of `torch.relu_(x)`."""
    while isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        value = call.func.value
        if isinstance(value, ast.Name | ast.Attribute) and ast.unparse(value) in _MODULES:
            break
        if not isinstance(value, ast.Call):
            return ast.unparse(value)
        call = value
    return ast.unparse(call.args[0]) if isinstance(call, ast.Call) and call.args else None
