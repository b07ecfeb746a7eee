"""Waiting for the device: which lines make the host wait, how often and for how long."""

from __future__ import annotations

from .boards import Links
from .native import Json
from .panels import column, grid, lines
from .queries import grouped, held, latest, per_step, rate, selected, table

__all__ = ["blocked", "sync_table", "syncs_by_kind"]

_NO_SYNC = (
    "No sync was seen. Without an accelerator nobody looks: attach(sync_device='cpu') counts what would wait on a GPU."
)


def syncs_by_kind(links: Links) -> Json:
    """Return how often a step waits, by the call that does."""
    return lines(
        "Syncs a step, by kind",
        "Times a step waits for the device, by the call that waits; allowed syncs left out.",
        held(per_step("kind", rate("loopscope.device.syncs")), "{{kind}}"),
        unit="suffix: a step",
        empty=_NO_SYNC,
        stacking="normal",
        legend=("mean",),
        links=links.to("device_sync", "device_sync_storm"),
    )


def blocked() -> Json:
    """Return how long a step waits, by line."""
    return lines(
        "Time blocked a step, by line",
        "Time that a step waits in syncs, by source line; not known inside operators.",
        held(per_step("site", rate("loopscope.device.sync")), "{{site}}"),
        unit="s",
        empty=_NO_SYNC,
        stacking="normal",
        legend=("mean",),
    )


def sync_table(links: Links) -> Json:
    """Return a row for each line and call that waits."""
    labels = "site, kind"
    return grid(
        "Lines that wait for the device",
        "Every line and call that made the host wait, since attach, and how often it does at the end of the time "
        "range. Lines beyond the first 50 are counted under other.",
        table(latest(per_step(labels, rate("loopscope.device.syncs")))),
        table(latest(grouped("sum", labels, selected("loopscope.device.syncs")))),
        table(latest(grouped("sum", labels, selected("loopscope.device.sync")))),
        columns=(
            column("site", "Line"),
            column("kind", "Call", width=120),
            column("Value #A", "A step", unit="none", decimals=2, width=120),
            column("Value #B", "Since attach", unit="none", decimals=0, width=130),
            column("Value #C", "Blocked", unit="s", width=120),
        ),
        order=("site", "kind", "Value #A", "Value #B", "Value #C"),
        sort=("Since attach", True),
        empty=_NO_SYNC,
        links=links.to("device_sync"),
    )
