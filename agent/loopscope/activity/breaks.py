"""Why torch.compile left the graph: from dynamo's text to a category, plain words and a remedy.

The texts are the `gb_type`s of `torch/_dynamo/graph_break_registry.json`, and their explanations and hints.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["BreakReason", "explain_break"]


class BreakReason(NamedTuple):
    """Why dynamo could not go on; `is_intended` where the user, or the optimizer, asked for it."""

    category: str
    text: str
    remedy: str
    is_intended: bool = False


_TYPE = re.compile(r"^(?P<type>[^\n]*)\n+\s*Explanation: ", re.MULTILINE)
_EXPLANATION = re.compile(r"Explanation: (?P<text>.*?)(?=\n\s*\n|\n\s*Hint: |\n\s*Developer debug|\Z)", re.DOTALL)
_HINT = re.compile(r"Hint: (?P<text>.*?)(?=\n\s*Hint: |\n\s*\n|\Z)", re.DOTALL)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_MAX_WORDS = 300
_OPTIMIZER = re.compile(r"[/\\]torch[/\\]optim[/\\]")
_ASKED_FOR = re.compile(
    r"torch\._dynamo\.graph_break\(\)|graph_break\(\)|torch\.compiler\.disable|skip_frame\(\)|step_unsupported|"
    r"Forced graph break|ComptimeContext|torch\._dynamo\.disable"
)
_RULES: tuple[tuple[str, re.Pattern[str], str, str], ...] = (
    (
        "data_dependent",
        re.compile(
            r"[Dd]ata[- ]dependent|generic_jump|Dynamic shape operator|DataDependent|dynamic slicing|Dynamic slicing|"
            r"non-scalar tensor|unbacked|index\(Tensor\)|output_shape|Unsupported call_id|torch\.cond",
        ),
        "what to do next depends on the values in a tensor",
        (
            "Compute both branches and choose with torch.where or torch.cond; where sizes depend on data keep a mask, "
            "or set torch._dynamo.config.capture_dynamic_output_shape_ops."
        ),
    ),
    (
        "print",
        re.compile(
            r"operator `print`|\(print\)|logging\.Logger|Python builtin `_?warnings\.|function `(?:logging|warnings)\."
        ),
        "it prints or logs",
        (
            "Move printing and logging out of the compiled function, or add the function to "
            "torch._dynamo.config.reorderable_logging_functions."
        ),
    ),
    (
        "sync",
        re.compile(
            r"Tensor\.item\b|item \(\)|tolist\(\)|Tensor\.numpy\(\)|\.numpy\(|local_scalar_dense|"
            r"capture_scalar_outputs|Data pointer",
        ),
        "it takes a value out of a tensor (.item(), .tolist(), float(), .numpy())",
        (
            "Keep the value a tensor, or take it outside of the compiled function; "
            "torch._dynamo.config.capture_scalar_outputs traces .item()."
        ),
    ),
    (
        "context_manager",
        re.compile(r"context manager|ContextWrapping|contextlib|contextmanager|__enter__|escaped from compiled"),
        "it uses a context manager that dynamo cannot trace",
        "Put the `with` block around the call of the compiled function.",
    ),
    (
        "unsupported_call",
        re.compile(
            r"[Uu]nsupported .*(?:call|method|function|function call)|Attempted to (?:call|inline)|marked as skipped|"
            r"Failed to trace|Failed to call|unimplemented builtin|Unhandled|does not know how to trace|copy\(\)|"
            r"deepcopy|Import failure|jit\.|method call|without fake|fake tensor|Missing bytecode|backward\(\)",
        ),
        "it calls something that dynamo cannot trace",
        (
            "Move the call out of the compiled function, replace it by a PyTorch function, or make it a custom "
            "operator (torch.library.custom_op)."
        ),
    ),
)


def explain_break(text: str, location: str) -> BreakReason:
    """Return why the graph was left, from dynamo's `text` and the `file:line` of the break itself."""
    kind = _first(_TYPE, text, "type")
    words = _short(_first(_EXPLANATION, text, "text")) or _short(kind or text.strip().split("\n", 1)[0])
    hint = _short(_first(_HINT, text, "text"))
    if _OPTIMIZER.search(location) or _OPTIMIZER.search(_first(_EXPLANATION, text, "text")):
        return BreakReason(
            "optimizer_step",
            "the step of an optimizer always leaves the graph once",
            "None needed.",
            is_intended=True,
        )
    told = kind or text
    if "_local_scalar_dense" in text:  # .tolist(), whose kind is "Data dependent operator"
        told = "local_scalar_dense"
    if _ASKED_FOR.search(told):
        return BreakReason("disabled", f"it was asked for: {words}", "None needed where it is meant.", is_intended=True)
    for category, pattern, plain, remedy in _RULES:
        if pattern.search(told) or (category == "print" and pattern.search(text)):
            return BreakReason(category, f"{plain}: {words}", remedy)
    return BreakReason("other", words or "dynamo gives no reason", hint or "Run once with TORCH_LOGS=graph_breaks.")


def _first(pattern: re.Pattern[str], text: str, group: str) -> str:
    match = pattern.search(text)
    return match[group] if match else ""


def _short(text: str) -> str:
    return " ".join(_ADDRESS.sub("", text).split())[:_MAX_WORDS]
