"""Write plain data as YAML that a person reads: texts of several lines as blocks, no dependency."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

__all__ = ["Data", "yaml_text"]

Data: TypeAlias = "str | int | float | bool | Sequence[Data] | Mapping[str, Data]"

_PLAIN = re.compile(r"[A-Za-z/]([A-Za-z0-9_./:-]*[A-Za-z0-9_./-])?( [A-Za-z0-9_./-]+)*")
"""Texts that need no quotes; numbers and what begins like one are quoted, a colon never ends a word."""
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_LAST_OF_JSON = 0xFFFF
"""JSON escapes characters beyond this one as two, which YAML reads as two."""
_DURATION = re.compile(r"[0-9]+(?:ms|[smhd])")


def yaml_text(data: Mapping[str, Data]) -> str:
    """Return a document; mappings keep their order and are not empty."""
    return "".join(f"{line}\n" for line in _mapping(data))


def _mapping(data: Mapping[str, Data]) -> Iterator[str]:
    for key, value in data.items():
        yield from _entry(f"{_scalar(key)}:", value)


def _entry(head: str, value: Data) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield head
        yield from _indented(_mapping(value))
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        yield head
        yield from _indented(_sequence(value))
    elif isinstance(value, str) and _is_block(value):
        yield f"{head} |-"
        yield from _indented(value.split("\n"))
    else:
        yield f"{head} {_scalar(value)}"


def _sequence(values: Sequence[Data]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping) and value:
            first, *rest = _mapping(value)
            yield f"- {first}"
            yield from _indented(rest)
        else:
            yield from _entry("-", value)


def _indented(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    return (f"  {line}" if line else "" for line in lines)


def _is_block(text: str) -> bool:
    """Whether a literal block gives back exactly this text."""
    lines = text.split("\n")
    return len(lines) > 1 and all(line == line.strip() and line.isprintable() and line for line in lines)


def _scalar(value: Data) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _DURATION.fullmatch(value) or (_PLAIN.fullmatch(value) and value.lower() not in _WORDS):
        return value
    if '"' in value and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    escaped = (char if ord(char) > _LAST_OF_JSON else json.dumps(char)[1:-1] for char in value)
    return f'"{"".join(escaped)}"'
