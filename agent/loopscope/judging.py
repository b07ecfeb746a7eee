"""Judge: what the detectors make of reports, with causes and the health that follows; each detector behind a guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .detectors.causes import Causes
from .detectors.health import Health
from .detectors.incidents import Incidents
from .detectors.moments import Moments
from .guard import Guard, Site
from .protocols import Detector
from .records import Anomaly, EpochReport, Event, HealthReport, LayerState, RunInfo, StepReport

__all__ = ["BATCH_REPORTS", "Judge", "Verdict"]

BATCH_REPORTS = 32
"""Reports that are best judged at once: what a detector needs is at hand then, which takes a third off its time."""
_R = TypeVar("_R", bound=StepReport | EpochReport)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one report."""

    events: Sequence[Event]
    """Those of its notes included, the first causes first."""
    layers: Mapping[str | None, Mapping[str, LayerState]]
    """By optimizer, the layers that are not healthy at this report."""
    health: HealthReport | None
    """Where it has changed since the last step."""


@dataclass(slots=True)
class _Witness:
    """A detector, and how often its incidents had changed when they were last looked at."""

    detector: Detector
    site: Site
    incidents: Incidents
    num_changes: int = 0


@dataclass(slots=True)
class _Finding:
    """What the detectors say of one report, before it is known what belongs together."""

    events: list[Event]
    changes: dict[int, tuple[Anomaly, ...]] = field(default_factory=dict)
    """What is open of the detectors, by their number, whose incidents changed at this report."""


class Judge:
    """The detectors of one agent; the worker owns it.

    Each detector sees all reports of a batch before the next detector does, so that its code and its state are at
    hand. What comes of it is what one report after the other would bring.
    """

    def __init__(
        self, info: RunInfo, detectors: Sequence[Detector], guard: Guard, breathe: Callable[[], None] = lambda: None
    ) -> None:
        self._info, self._guard, self._breathe = info, guard, breathe
        self._witnesses = [
            _Witness(detector, guard.at(f"detector.{detector.name}"), _incidents_of(detector)) for detector in detectors
        ]
        self._causes, self._health, self._moments = Causes(info.layer_ranks), Health(), Moments()
        self._site = guard.at("health")
        self._has_health = False

    def judge(self, report: StepReport | EpochReport, noted: Sequence[Event] = ()) -> Verdict:
        """Return what comes of one report and the events of its notes."""
        verdicts: list[Verdict] = []
        self.judge_all([report], [noted], lambda _, verdict: verdicts.append(verdict))
        return verdicts[0]

    def judge_all(
        self,
        reports: Sequence[_R],
        noted: Sequence[Sequence[Event]],
        tell: Callable[[_R, Verdict], None],
    ) -> None:
        """Tell what comes of each report and the events of its notes, in their order; breathe before each detector.

        Where a fault escapes the guard (a thread that is ended, `strict`), what was found until then is told.
        """
        findings = [_Finding([*events]) for events in noted]
        try:
            self._hear(reports, findings)
        finally:
            for report, events, finding in zip(reports, noted, findings, strict=True):
                tell(report, self._conclude(report, events, finding))

    def group(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return events with their incidents and with what happened at their step."""
        if self._site.is_enabled:
            with self._site:
                self._has_health |= self._health.note(events)
                return [self._moments.explain(event) for event in self._causes.group(events, self._health.anomalies)]
        return events

    def _hear(self, reports: Sequence[StepReport | EpochReport], findings: Sequence[_Finding]) -> None:
        for number, witness in enumerate(self._witnesses):
            self._breathe()
            incidents = witness.incidents
            told = self._guard.each(witness.site, witness.detector.see, reports)
            for finding, events in zip(findings, told, strict=True):
                if events:
                    finding.events += events
                if incidents.num_changes != witness.num_changes:
                    witness.num_changes = incidents.num_changes
                    finding.changes[number] = incidents.anomalies()

    def _conclude(self, report: StepReport | EpochReport, noted: Sequence[Event], finding: _Finding) -> Verdict:
        if self._site.is_enabled:
            with self._site:
                if isinstance(report, StepReport):
                    self._moments.add(report, noted)
                    self._causes.see(report)
                if finding.changes:
                    self._has_health |= self._health.take(finding.changes)
        events = self.group(finding.events) if finding.events else ()
        return Verdict(events, self._health.layers, self._news(report) if self._has_health else None)

    def _news(self, report: StepReport | EpochReport) -> HealthReport | None:
        if not isinstance(report, StepReport):
            return None
        self._has_health = False
        info = self._info
        return HealthReport(
            run=info.run,
            agent=info.agent,
            rank=info.rank,
            time_unix_seconds=report.time_unix_seconds,
            step=report.step,
            anomalies=self._health.anomalies,
            layers=self._health.layers,
        )


def _incidents_of(detector: Detector) -> Incidents:
    incidents = getattr(detector, "incidents", None)  # others may call theirs so as well
    return incidents if isinstance(incidents, Incidents) else Incidents()
