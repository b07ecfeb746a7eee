"""Host-device syncs: who waited for the device, how, at which line, and for how long."""

from __future__ import annotations

from .probe import SyncProbe

__all__ = ["SyncProbe"]
