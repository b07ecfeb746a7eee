"""Every kind of event."""

from __future__ import annotations

from .families import EventKind

__all__ = ["EVENT_KINDS"]

EVENT_KINDS: tuple[EventKind, ...] = (
    EventKind(name="nonfinite_gradient", severity="critical", help="A layer's gradient became NaN or infinite."),
    EventKind(name="nonfinite_loss", severity="critical", help="The loss became NaN or infinite."),
    EventKind(
        name="probe_disabled",
        severity="warning",
        help="A part of loopscope failed too often and switched itself off; training goes on.",
    ),
)
