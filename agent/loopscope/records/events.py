"""What happened and may need a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Event"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at a step and that a person may act on."""

    kind: str
    severity: str
    step: int
    epoch: int
    message: str
    remedy: str
    layer: str | None = None
    site: str | None = None
    value: float | None = None
    threshold: float | None = None
    first_cause: bool = False
    attributes: Mapping[str, object] = field(default_factory=dict)
    run: str = ""
    agent: str = ""
    rank: int | None = None
    optimizer: str | None = None
    time_unix_seconds: float = 0.0
