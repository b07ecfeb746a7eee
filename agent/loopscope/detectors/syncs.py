"""The budget of host-device syncs: more of them in a step than the user allows open an incident."""

from __future__ import annotations

from ..records import EpochReport, Event, SelfReport, StepReport, SyncCount

__all__ = ["SyncBudget"]

STEPS_TO_CLOSE = 50
"""Steps in a row within the budget after which an incident is over, so that sampled steps do not open it anew."""


class SyncBudget:
    """Reports the first step of an incident with more syncs than `budget`; None for no budget.

    Allowed syncs do not count. Syncs inside operators are seen on sampled steps, so that such a step may be over the
    budget while those between are not: an incident lasts over the steps in between.
    """

    name = "sync_budget"

    def __init__(self, budget: int | None) -> None:
        self._budget = budget
        self._num_steps_within = STEPS_TO_CLOSE

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens, if any."""
        if self._budget is None or not isinstance(report, StepReport):
            return ()
        counted = [sync for sync in report.syncs if not sync.is_allowed]
        total = sum(sync.count for sync in counted)
        if total <= self._budget * report.num_steps:
            self._num_steps_within += 1
            return ()
        is_open, self._num_steps_within = self._num_steps_within < STEPS_TO_CLOSE, 0
        return () if is_open else (_event(report, counted, total, self._budget),)


def _event(report: StepReport, counted: list[SyncCount], total: int, budget: int) -> Event:
    ranked = sorted(counted, key=lambda sync: -sync.count)
    named = ", ".join(f"{sync.kind} x{sync.count} at {sync.site}" for sync in ranked[:3])
    more = f" and {len(ranked) - 3} further lines" if len(ranked) > 3 else ""
    return Event(
        kind="device_sync",
        severity="warning",
        step=report.step,
        epoch=report.epoch,
        message=f"The step waited {total} times for the device, and the budget is {budget}: {named}{more}.",
        remedy="Read values less often or keep them on the device; what has to wait can be named in allow_syncs, or "
        "stand under `with loopscope.allow_sync(...)`.",
        site=ranked[0].site,
        value=float(total),
        threshold=float(budget),
        attributes={"sync": ranked[0].kind, "syncs": {f"{sync.site} {sync.kind}": sync.count for sync in ranked}},
        run=report.run,
        agent=report.agent,
        rank=report.rank,
        optimizer=report.optimizer,
        time_unix_seconds=report.time_unix_seconds,
    )
