"""Causes: anomalies that belong together, the earliest marked as the first cause, the others referring to it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..records import Anomaly, Event, StepReport

__all__ = ["Causes", "ungrouped"]

QUIET_STEPS = 30
"""Steps after its latest event at which an incident is over, unless one of its acute anomalies is still open.

Three times the memory of momentum 0.9, and as long as `dead_layer` and `vanishing_gradient` wait before they tell.
"""
LATE_STEPS = {"loss_diverging": 100}
"""The same for what is told late: a loss diverges where it stays above a bound that follows the last 100 losses."""
_ACUTE = (
    "inplace_corruption",
    "inplace_conflict",
    "accumulating_gradient",
    "exploding_gradient",
    "gradient_spike",
    "nonfinite_loss",
    "nonfinite_gradient",
    "update_ratio",
    "loss_spike",
    "loss_diverging",
)
"""What spreads through a network within steps. Where two begin on the same step, the one that stands first here leads:
a loss is there before its gradient, and a gradient acts on the weights before they act on the next loss.
"""
_CHRONIC = (
    "zero_learning_rate",
    "underflow",
    "vanishing_gradient",
    "dead_layer",
    "frozen_layer",
    "saturated_units",
    "dead_units",
    "loss_plateau",
)
"""What lasts, and is told only after a while: the result of something acute where it began later, never its cause."""
_FAMILIES: tuple[tuple[str, ...], ...] = (
    _ACUTE,
    _CHRONIC,
    ("recompilation", "recompile_storm", "compile_fallback", "graph_break"),
    ("device_sync", "device_sync_storm"),
    ("hook_leak", "memory_creep"),
    ("input_bound",),
    ("hook_never_fires",),
    ("nondeterministic_op",),
)
_FAMILY = {kind: number for number, family in enumerate(_FAMILIES) for kind in family}
_ORDER = {kind: place for family in _FAMILIES for place, kind in enumerate(family)}
_ATTRIBUTES = frozenset({"incident", "cause", "cause_step", "cause_layer"})
"""Of events that belong together; no event has one of them before."""
_LASTING = frozenset({"exploding_gradient", "nonfinite_loss", "nonfinite_gradient", "loss_diverging"})


@dataclass(slots=True)
class _Group:
    """One incident: what it began with, and when it was last heard of."""

    number: int
    head: Event
    since: int
    latest: int


class Causes:
    """Groups the events of one agent, `warning` and above, into incidents.

    Each event gets the attribute `incident`, a number; the first one of an incident has `first_cause`, and the others
    the attributes `cause`, `cause_step` and `cause_layer` of that first one. Optimizers count their steps each by
    itself: time is the steps of all of them. Memory: an event for each family.
    """

    def __init__(self, layer_ranks: Mapping[str, int]) -> None:
        self._ranks = layer_ranks
        self._groups: dict[int, _Group] = {}
        self._num_groups = self._now = 0
        self._latest: dict[str | None, int] = {}
        """By optimizer, the number of its latest step."""

    def see(self, report: StepReport) -> None:
        """Go on to the step of this report."""
        self._now += report.num_steps
        self._latest[report.optimizer] = report.step

    def group(self, events: Sequence[Event], anomalies: Iterable[Anomaly]) -> list[Event]:
        """Return the events of one step, the first causes first; `anomalies` are those that are open."""
        lasting = [self._time(each.optimizer, each.step) for each in anomalies if each.kind in _LASTING]
        since = min(lasting, default=math.inf)
        return [self._place(event, since) for event in sorted(events, key=self._in_order)]

    def _in_order(self, event: Event) -> tuple[float, ...]:
        is_grouped = event.severity != "info" and event.kind in _FAMILY
        rank = self._ranks.get(event.layer or "", len(self._ranks))
        return (not is_grouped, _FAMILY.get(event.kind, 0), self._since(event), _ORDER.get(event.kind, 0), rank)

    def _place(self, event: Event, lasting_since: float) -> Event:
        family = _FAMILY.get(event.kind)
        if event.severity == "info" or family is None:
            return event
        group = self._group_of(event, family, lasting_since)
        if group is None:
            self._num_groups += 1
            latest = self._time(event.optimizer, event.step)
            self._groups[family] = _Group(self._num_groups, event, self._since(event), latest)
            return _marked(event, {"incident": self._num_groups}, first_cause=True)
        group.latest = max(group.latest, self._time(event.optimizer, event.step))
        head = group.head
        cause = {"cause": head.kind, "cause_step": head.step, "cause_layer": head.layer}
        return _marked(event, {"incident": group.number, **cause}, first_cause=False)

    def _group_of(self, event: Event, family: int, lasting_since: float) -> _Group | None:
        """Return the open incident of which this event may be a result: what began before it cannot be one.

        An anomaly that is open and began within an incident keeps it open, one that has only just begun does not.
        """
        acute = self._groups.get(_FAMILY[_ACUTE[0]])
        for group in (self._groups.get(family), acute if event.kind in _CHRONIC else None):
            if group is None:
                continue
            since = self._since(event)
            quiet_steps = LATE_STEPS.get(event.kind, QUIET_STEPS)
            is_quiet = since - group.latest > quiet_steps * max(len(self._latest), 1)
            if since >= group.since and (not is_quiet or (group is acute and lasting_since <= group.latest)):
                return group
        return None

    def _since(self, event: Event) -> int:
        """Return when it began, as far as the detector knows."""
        since = event.attributes.get("since_step")
        if not isinstance(since, int):
            return self._time(event.optimizer, event.step)
        num_steps_ago = event.step - since
        return self._time(event.optimizer, event.step) - num_steps_ago * max(len(self._latest), 1)

    def _time(self, optimizer: str | None, step: int) -> int:
        """Return when this step of an optimizer was, in steps of all optimizers; now for one that has not stepped."""
        if not self._latest:
            return step
        num_steps_ago = self._latest.get(optimizer, step) - step
        return self._now - num_steps_ago * max(len(self._latest), 1)


def ungrouped(event: Event) -> Event:
    """Return an event as it was before it was grouped, so that it can be grouped anew."""
    attributes = {name: value for name, value in event.attributes.items() if name not in _ATTRIBUTES}
    return dataclasses.replace(event, first_cause=False, attributes=attributes)


def _marked(event: Event, attributes: Mapping[str, object], *, first_cause: bool) -> Event:
    return dataclasses.replace(event, first_cause=first_cause, attributes={**event.attributes, **attributes})
