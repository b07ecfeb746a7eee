"""An example for Alertmanager: one message a run, and consequences that are silent while their cause is known."""

from __future__ import annotations

from collections.abc import Mapping

from .alerts import alert_name
from .kinds import TEXTS
from .settings import duration
from .yaml_text import Data

__all__ = ["CONSEQUENCES", "alertmanager_configuration"]

_OF_LOSS = ("loss_diverging", "loss_spike")
_OF_NAN = (
    *_OF_LOSS,
    "exploding_gradient",
    "gradient_spike",
    "update_ratio",
    "underflow",
    "vanishing_gradient",
    "dead_layer",
    "frozen_layer",
    "dead_units",
    "saturated_units",
)
CONSEQUENCES: Mapping[str, tuple[str, ...]] = {
    "inplace_corruption": ("nonfinite_gradient", "nonfinite_loss", *_OF_NAN),
    "nonfinite_loss": _OF_NAN,
    "nonfinite_gradient": _OF_NAN,
    "accumulating_gradient": ("exploding_gradient", "gradient_spike", "update_ratio", *_OF_LOSS),
    "exploding_gradient": ("gradient_spike", "update_ratio", *_OF_LOSS),
    "loss_diverging": ("loss_spike",),
    "zero_learning_rate": ("frozen_layer", "update_ratio"),
    "recompile_storm": ("recompilation",),
    "device_sync_storm": ("device_sync",),
    "hook_leak": ("memory_creep",),
}
"""What follows from what, where that goes one way only: Alertmanager knows of no order in time.

Which anomaly of a run was the first cause the agent says in its events (`first_cause`); it is no label, as it is known
of an event and not of a series. No warning silences what is critical.
"""


def alertmanager_configuration(
    webhook_url: str = "http://127.0.0.1:9095/", *, group_wait_seconds: float = 10, group_interval_seconds: float = 60
) -> dict[str, Data]:
    """Return a configuration: routes, grouping and inhibition as they should be; the receiver is to be replaced."""
    return {
        "route": {
            "receiver": "people",
            "group_by": ["job", "instance"],
            "group_wait": duration(group_wait_seconds),
            "group_interval": duration(group_interval_seconds),
            "repeat_interval": "4h",
        },
        "inhibit_rules": [*map(_of_kind, CONSEQUENCES), _OF_STALL],
        "receivers": [{"name": "people", "webhook_configs": [{"url": webhook_url, "send_resolved": True}]}],
    }


_OF_STALL: Data = {
    "source_matchers": ['alertname="LoopscopeRunStalled"'],
    "target_matchers": ['alertname=~"LoopscopeInputBound|LoopscopeDeviceSyncStorm"'],
    "equal": ["job", "instance"],
}
"""Windows of steps that no longer end stay open; a process that stands still has no agent to be equal in."""


def _of_kind(cause: str) -> Data:
    consequences = "|".join(alert_name(kind) for kind in CONSEQUENCES[cause] if kind in TEXTS)
    return {
        "source_matchers": [f'alertname="{alert_name(cause)}"'],
        "target_matchers": [f'alertname=~"{consequences}"'],
        "equal": ["job", "instance", "agent", "rank"],
    }
