"""What the user's code makes the machine do: syncs, compilations and their like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ActivityReport", "SyncCount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncCount:
    """Host-device synchronisations of one kind that one line of the user's code caused."""

    kind: str
    """One of `catalog.SYNC_KINDS`."""
    site: str
    """`path/file.py:line`."""
    count: int
    seconds: float
    """Time the host was blocked; 0 where only the operator's warning was seen."""
    is_allowed: bool = False
    """Whether `allow_syncs` or `allow_sync` covers it: neither budget nor events count it."""
    is_other_thread: bool = False
    """Whether another thread waited, as backward does on CUDA; `site` is then where the main thread was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityReport:
    """Counters of what happens at lines and in frames of the user's code; they count from attach."""

    run: str
    agent: str
    rank: int | None
    time_unix_seconds: float
    step: int
    """Step during which the latest of it happened."""
    counters: Mapping[str, Mapping[tuple[str, ...], float]]
    """By the catalog's name of the metric, then by the values of its labels."""
    num_left_out: int = 0
    """Label values that were counted under `other`, as their metric was at its bound."""
