"""Answer: what a collector said to a request, and what that means for what was sent."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

__all__ = ["MAX_ANSWER_BYTES", "Answer", "Outcome", "Transport"]

MAX_ANSWER_BYTES = 65_536
"""Of an answer's body; more is not read."""


class Outcome(enum.Enum):
    """What became of a request."""

    DELIVERED = enum.auto()
    RETRY = enum.auto()
    """It may be sent again: nobody answered, or whoever did asks for it."""
    REFUSED = enum.auto()
    """It would be refused again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An outcome, why, and for RETRY how long the collector asks to be left alone."""

    outcome: Outcome
    reason: str = ""
    body: bytes = b""
    wait_seconds: float | None = None


class Transport(Protocol):
    """Takes requests to a collector; `send` on one thread, `abort` on any."""

    def send(self, body: bytes, timeout_seconds: float) -> Answer:
        """Send one request and wait for its answer; what fails on the way is an answer as well."""

    def abort(self) -> None:
        """End the request under way."""
