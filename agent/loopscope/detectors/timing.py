"""Time: loops that wait for their data, and single steps that take far longer than others."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..records import Event, StepReport
from .incidents import Incident, Incidents, Severity, event

if TYPE_CHECKING:
    from ..records import EpochReport, SelfReport

__all__ = ["InputBound", "InputBoundRule", "OutlierRule", "StepTimeOutlier"]

_WINDOWS_TO_CLOSE = 2
_BLOCK_STEPS = 16
_WINDOW_STEPS = 64
_STEPS_TO_CLOSE = 10
_MAD_TO_SIGMA = 1.4826
_SYNCS_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class InputBoundRule:
    """Bounds of `input_bound`, over a window of steps."""

    window_steps: float = 50
    """Steps of a window, at whose end it is judged."""
    share: float = 0.5
    """Share of the time spent waiting for data: half of it is lost (SageMaker's Dataloader and IOBottleneck: 50 %)."""
    steps_share: float = 0.2
    """Share of steps that wait for `step_seconds`, so that the first batch of an epoch alone is none."""
    step_seconds: float = 0.003
    """Seconds of waiting below which a step does not count: indexing and collating 32 small samples takes 1 ms."""


class InputBound:
    """Reports a loop that waits for its data loader most of the time."""

    name = "input_bound"

    def __init__(self, rule: InputBoundRule) -> None:
        self._rule = rule
        self.incidents = Incidents()
        self._sums: dict[str | None, list[float]] = {}
        self._open: dict[str | None, Incident] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step's window opens."""
        if not isinstance(report, StepReport) or not report.duration_seconds or not report.phases:
            return ()
        sums = self._sums.get(report.optimizer)
        if sums is None:
            sums = self._sums[report.optimizer] = [0.0, 0.0, 0.0, 0.0]
        wait = report.phases.get("data_wait", 0.0)
        sums[0] += 1
        sums[1] += report.duration_seconds
        sums[2] += wait
        sums[3] += wait >= self._rule.step_seconds
        if sums[0] < self._rule.window_steps:
            return ()
        num_steps, duration, waited, num_waiting = sums
        del self._sums[report.optimizer]
        share = waited / duration
        incident = self._open.get(report.optimizer)
        if incident is None:
            incident = self._open[report.optimizer] = self.incidents.new(self.name, report.optimizer, _WINDOWS_TO_CLOSE)
        if share < self._rule.share or num_waiting < self._rule.steps_share * num_steps:
            incident.see_calm()
            return ()
        if not incident.see(Severity.WARNING, report.step):
            return ()
        return (
            event(
                report,
                "input_bound",
                Severity.WARNING,
                f"The loop waits for data {share:.0%} of the time, {1e3 * waited / num_steps:.3g} ms a step.",
                "Raise num_workers and prefetch_factor of the DataLoader, and do less for each sample or do it once.",
                value=share,
                threshold=self._rule.share,
                attributes={"wait_seconds": waited / num_steps},
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierRule:
    """Bounds of `step_time_outlier`."""

    z_score: float = 10.0
    """Robust standard deviations above the window's median. (SageMaker's StepOutlier has 3: one step in 700.)"""
    ratio: float = 3.0
    """Duration over the median."""
    seconds: float = 0.05
    """Seconds above the median: the scheduler and the garbage collector cost less, and a person would not notice."""


class StepTimeOutlier:
    """Reports steps that took far longer than those around them, with what happened in them; `info`.

    Memory: 80 floats an optimizer.
    """

    name = "step_time_outlier"

    def __init__(self, rule: OutlierRule) -> None:
        self._rule = rule
        self.incidents = Incidents()
        self._tracks: dict[str | None, _Durations] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        if not isinstance(report, StepReport) or report.duration_seconds is None:
            return ()
        track = self._tracks.get(report.optimizer)
        if track is None:
            incident = self.incidents.new(self.name, report.optimizer, _STEPS_TO_CLOSE)
            track = self._tracks[report.optimizer] = _Durations(incident)
        duration = report.duration_seconds
        if not track.take(duration, self._rule):
            track.incident.see_calm()
            return ()
        if not track.incident.see(Severity.INFO, report.step):
            return ()
        return (_outlier_event(report, duration, track),)


class _Durations:
    """The durations of one optimizer's steps, and the bound as of the last block's end."""

    def __init__(self, incident: Incident) -> None:
        self._durations: deque[float] = deque(maxlen=_WINDOW_STEPS + _BLOCK_STEPS)
        self._num_steps = self._num_judged = 0
        self.median, self.bound = 0.0, float("inf")
        self.incident = incident

    def take(self, duration: float, rule: OutlierRule) -> bool:
        """Take in a step; return whether it is an outlier. No bound is below `rule.seconds`: most need not be known."""
        is_outlier = False
        if duration > rule.seconds:
            self._renew(rule)
            is_outlier = duration > self.bound
        self._durations.append(min(duration, self.bound) if is_outlier else duration)
        self._num_steps += 1
        return is_outlier

    def _renew(self, rule: OutlierRule) -> None:
        num_since = self._num_steps % _BLOCK_STEPS
        if self._num_steps - num_since == self._num_judged:
            return
        self._num_judged = self._num_steps - num_since
        ordered = sorted([*self._durations][: len(self._durations) - num_since][-_WINDOW_STEPS:])
        self.median = ordered[len(ordered) // 2]
        deviations = sorted(abs(each - self.median) for each in ordered)
        sigma = _MAD_TO_SIGMA * deviations[len(deviations) // 2]
        margin = max(rule.z_score * sigma, (rule.ratio - 1) * self.median, rule.seconds)
        self.bound = self.median + margin


def _outlier_event(report: StepReport, duration: float, track: _Durations) -> Event:
    longest = max(report.phases, key=lambda phase: report.phases[phase]) if report.phases else None
    syncs = sorted(report.syncs, key=lambda sync: -sync.seconds)[:_SYNCS_NAMED]
    happened: dict[str, Any] = {
        "phases": dict(report.phases),
        "syncs": {f"{sync.site} {sync.kind}": sync.seconds for sync in syncs},
        "events": [each.kind for each in report.events],
    }
    return event(
        report,
        "step_time_outlier",
        Severity.INFO,
        f"The step took {duration:.3g} s, where {track.median:.3g} s is usual"
        + (f"; most of it in {longest} ({report.phases[longest]:.3g} s)." if longest else "."),
        "See what happened in it: data_wait is the loader, compilations and waits for the device are named.",
        value=duration,
        threshold=track.bound,
        attributes=happened,
    )
