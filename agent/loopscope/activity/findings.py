"""What a note comes to: an event without the step and the run that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An event to be: see `records.Event` for the fields."""

    kind: str
    severity: Literal["info", "warning", "critical"]
    message: str
    remedy: str
    site: str | None = None
    value: float | None = None
    threshold: float | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)
