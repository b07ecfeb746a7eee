"""The worker's side of what probes note: counters by line and frame, and the events that are worth one."""

from __future__ import annotations

from .activity import Activity, Moment
from .findings import Finding

__all__ = ["Activity", "Finding", "Moment"]
