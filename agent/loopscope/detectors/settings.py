"""Settings of the rules, from texts such as `gradient_spike=off` and `gradient_spike.z_score=8`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from ..errors import SettingError

__all__ = ["Rules", "parse_rules"]

Rules = Mapping[str, Any]
"""The bounds of every kind of event, by its name; None where it is off."""


def parse_rules(texts: Iterable[str], defaults: Rules) -> dict[str, Any]:
    """Return `defaults` with the changes of `texts`, later ones winning.

    Raises SettingError for a rule or a parameter that does not exist, with the nearest, and for a value that is no
    number above zero.
    """
    rules = dict(defaults)
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        kind, _, parameter = name.partition(".")
        if kind not in defaults:
            raise _error(text, kind, "a rule", defaults)
        if not equals:
            raise _wrong(text, f"{kind}=off, or {kind}.PARAMETER=NUMBER")
        if not parameter:
            rules[kind] = _switched(text, value, rules[kind], defaults[kind])
            continue
        names = [field.name for field in fields(defaults[kind])]
        if parameter not in names:
            raise _error(text, parameter, f"a parameter of {kind}", names)
        rule = defaults[kind] if rules[kind] is None else rules[kind]
        rules[kind] = replace(rule, **{parameter: _number(text, value)})
    return rules


def _switched(text: str, value: str, rule: Any, default: Any) -> Any:
    if value.lower() in {"off", "0", "false", "no"}:
        return None
    if value.lower() in {"on", "1", "true", "yes"}:
        return rule or default
    raise _wrong(text, "on or off")


def _number(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise _wrong(text, "a number above zero")
    return number


def _error(text: str, name: str, what: str, known: Iterable[str]) -> SettingError:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"{name!r} is not {what}."
    allowed = f"as {what}: {', '.join(names)}" if names else "on or off, as it has no parameters"
    return SettingError("rules", text, allowed=allowed, remedy=hint)


def _wrong(text: str, allowed: str) -> SettingError:
    return SettingError("rules", text, allowed=allowed, remedy="See docs/detectors.md for every rule and its bounds.")
