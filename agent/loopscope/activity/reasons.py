"""Why a frame was compiled again: from the guards that failed to a category, plain words and a remedy."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import NamedTuple

from .guards import GUARDS

__all__ = ["Reason", "explain_recompilation", "guard_line", "with_type"]


class Reason(NamedTuple):
    """What had changed; `is_mode` where it is but train or eval, with or without gradients."""

    category: str
    text: str
    remedy: str
    guard: str = ""
    is_mode: bool = False


_VALUE = re.compile(r"^(?P<name>\S+) (?:==|is) (?P<old>.+?)(?: # .*)?$")
_MAX_GUARD = 300
_NUMBER = re.compile(r"^\S+/\d+(?:_\d+)?: ")
_LOCAL = re.compile(r"L\['(\w+)'\]")
_GLOBAL = re.compile(r"G\['(\w+)'\]")
_COMMENT = re.compile(r"\s{2,}#.*|\s+\(HINT: .*")
_RATE = re.compile(r"^(?:L\['lr'\]|lr)(?= )")
_OPTIMIZER = re.compile(r'File "[^"]*[/\\]torch[/\\]optim[/\\]')
_CHECKED = {"memory_layout": -1, "requires_grad": 1, "dtype": 2, "type": 3}
"""How early an argument's guards are checked, the earliest highest; sizes and values are 0."""
_UNKNOWN = "Run once with TORCH_LOGS=recompiles_verbose to see all guards that failed."


def explain_recompilation(guards: Sequence[str]) -> Reason:
    """Return what had changed, from the failed guard of each variant, the newest first.

    Of several variants the nearest one counts, the one whose guards went furthest before one failed. And a switch
    between train and eval is what changed only if no variant for this mode is there already. Of two values the learning
    rate counts: not every variant's guard says whose `lr` it is.
    """
    reasons = [_explain(guard) for guard in guards] or [_explain("")]
    return min(reasons, key=lambda reason: (_distance(reason), reason.category != "learning_rate"))


def _distance(reason: Reason) -> int:
    """Global state is checked first; of an argument its type, then dtype, requires_grad, sizes and strides."""
    if reason.is_mode:
        return 1_000 + (reason.category != "train_eval")
    if reason.category == "global_state":
        return 100 + len(reason.text.split())
    return _CHECKED.get(reason.category, 0)


def with_type(reason: Reason, type_now: str | None) -> Reason:
    """Return the reason as a change of type where a value of another type came in place of the one compiled in."""
    value = _VALUE.match(reason.guard)
    if reason.category != "python_scalar" or value is None or type_now is None:
        return reason
    type_before = _type_of(value["old"])
    if type_before in {None, type_now}:
        return reason
    text = f"`{value['name']}` was {value['old']}, of type {type_before}, and is now of type {type_now}"
    return reason._replace(category="type", text=text, remedy="Pass one type on every call, or a tensor.")


def _type_of(literal: str) -> str | None:
    try:
        return type(ast.literal_eval(literal)).__name__
    except (ValueError, SyntaxError):
        return None


def guard_line(guard: str) -> str:
    """Return the first line of a guard's text, without the number of the variant, and of bounded length."""
    line = _NUMBER.sub("", guard.strip().split("\n", 1)[0])
    return " ".join(line.split())[:_MAX_GUARD]


def _explain(guard: str) -> Reason:
    raw = _NUMBER.sub("", guard.strip().split("\n", 1)[0])
    if _OPTIMIZER.search(guard):  # anywhere else `lr` is a name like any other
        raw = _RATE.sub("param_groups[0]['lr']", raw)
    plain = _GLOBAL.sub(r"\1", _LOCAL.sub(r"\1", _COMMENT.sub("", raw))).strip()
    for rule in GUARDS:
        match = rule.pattern.search(plain)
        if match is not None:
            words = {"name": "it", "dim": "", "old": "?", "new": "?", "what": "?"}
            words |= {name.rstrip("2"): value for name, value in match.groupdict().items() if value is not None}
            text, remedy = rule.text.format(**words), rule.remedy.format(**words)
            return Reason(rule.category, text, remedy, guard_line(guard), rule.is_mode)
    return Reason("other", guard_line(guard) or "dynamo gives no reason", _UNKNOWN, guard_line(guard))
