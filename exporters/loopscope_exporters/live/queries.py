"""What a reader asks for in the query of its address, and whom of the agents it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from .agents import Agents, AgentState

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["BadQueryError", "number", "query", "selected"]

_MAX_FIELDS = 16
_MAX_DIGITS = 18
"""A number of so many fits 64 bits."""


class BadQueryError(ValueError):
    """A query that cannot be answered: `status` and words for the reader."""

    def __init__(self, status: str, words: str) -> None:
        super().__init__(words)
        self.status = status


def query(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the last value of each name."""
    text = str(environ.get("QUERY_STRING", ""))
    try:
        found = parse_qs(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as fault:
        raise BadQueryError("400 Bad Request", f"The query has more than {_MAX_FIELDS} fields.") from fault
    return {name: values[-1] for name, values in found.items()}


def number(asked: Mapping[str, str], name: str) -> int:
    """Return a whole number of the query, 0 where it is not in it."""
    text = asked.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise BadQueryError("400 Bad Request", f"{name}={text!r} cannot be used. Allowed: 0, 1, 2 and so on.")
    return int(text)


def selected(agents: Agents, asked: Mapping[str, str]) -> tuple[str, AgentState, str | None]:
    """Return the agent that is asked for, and which of its optimizers: the first of each where it is left open."""
    states = agents.named()
    name = asked.get("agent", next(iter(states), ""))
    if name not in states:
        raise BadQueryError("404 Not Found", f"agent={name!r} is not here. There are: {', '.join(states) or 'none'}.")
    state = states[name]
    optimizers = state.optimizers
    optimizer = asked.get("optimizer") or None
    if optimizer is None and None not in optimizers:
        optimizer = next(iter(optimizers), None)
    if optimizer is not None and optimizer not in optimizers:
        there = ", ".join(str(each) for each in optimizers if each is not None) or "none with a name"
        raise BadQueryError("404 Not Found", f"optimizer={optimizer!r} is not here. There are: {there}.")
    return name, state, optimizer
