"""Judge: what the detectors make of reports, with causes and the health that follows; each detector behind a guard."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from .detectors.causes import Causes
from .detectors.health import Health
from .detectors.incidents import Incidents
from .detectors.moments import Moments
from .detectors.stretches import Skimming, Stretch, stretches
from .guard import Guard, Site
from .protocols import Detector
from .records import Anomaly, EpochReport, Event, HealthReport, LayerState, RunInfo, StepReport

__all__ = ["BATCH_REPORTS", "Judge", "Verdict", "disabled"]

BATCH_REPORTS = 32
"""Reports that are best judged at once: what a detector needs is at hand then, which takes a third off its time."""
_STEPS_A_TRY = 4
"""Steps of a stretch for each time that a detector may skim in it: to try costs as much as to see one or two."""
_R = TypeVar("_R", bound=StepReport | EpochReport)


class Verdict(NamedTuple):
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
    number: int
    site: Site
    incidents: Incidents
    skimming: Skimming | None
    num_changes: int = 0

    def skim(self, stretch: Stretch, place: int) -> int:
        """Have the detector take in steps; return how many. Raises ValueError for a number that there are not."""
        assert self.skimming is not None
        size = self.skimming.skim(stretch, place)
        if not 0 <= operator.index(size) <= len(stretch) - place:
            raise ValueError(f"{self.detector.name} skims {size} steps of {len(stretch) - place}")
        return size

    def see_each(self, reports: Iterable[tuple[StepReport | EpochReport, _Finding]]) -> None:
        """Have the detector see reports; what it says goes into the findings."""
        see, incidents = self.detector.see, self.incidents
        for report, finding in reports:
            try:
                if events := see(report):
                    finding.events += events
            finally:
                if incidents.num_changes != self.num_changes:
                    self.num_changes = incidents.num_changes
                    finding.changes[self.number] = incidents.anomalies()


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
            _Witness(
                detector, number, guard.at(f"detector.{detector.name}"), _incidents_of(detector), _skimming(detector)
            )
            for number, detector in enumerate(detectors)
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
            self._detect(reports, findings)
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

    def _detect(self, reports: Sequence[StepReport | EpochReport], findings: Sequence[_Finding]) -> None:
        found, _ = self._guard.attempt(stretches, reports)
        for witness in self._witnesses:
            self._breathe()
            place = 0
            for stretch in (found or ()) if witness.skimming is not None else ():
                self._see_each(witness, reports[place : stretch.begin], findings[place : stretch.begin])
                self._skim(witness, stretch, findings[stretch.begin :])
                place = stretch.begin + len(stretch)
            self._see_each(witness, reports[place:], findings[place:])

    def _skim(self, witness: _Witness, stretch: Stretch, findings: Sequence[_Finding]) -> None:
        """Have a detector take in a stretch, and see what of it needs a closer look.

        Where it fails to it sees all of the rest; so it does where looks were many.
        """
        place, end, num_tries = 0, len(stretch), 0
        while place < end and witness.site.is_enabled:
            num_tries += 1
            size, fault = self._guard.attempt(witness.skim, stretch, place)
            place += size or 0
            rest = slice(place, place + 1 if fault is None and num_tries * _STEPS_A_TRY < end else end)
            num_faults = witness.site.num_faults
            self._see_each(witness, stretch.reports[rest], findings[rest])
            place = rest.stop
            if fault is not None and witness.site.num_faults == num_faults:  # else it was the step's, and is counted
                with witness.site:
                    raise fault

    def _see_each(
        self, witness: _Witness, reports: Sequence[StepReport | EpochReport], findings: Sequence[_Finding]
    ) -> None:
        if reports:
            self._guard.exhaust(witness.site, witness.see_each, zip(reports, findings, strict=False))

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


def _skimming(detector: Detector) -> Skimming | None:
    """Return the detector where it can skim what it sees; not so where a subclass or anybody replaced its `see`."""
    if not isinstance(detector, Skimming) or "see" in getattr(detector, "__dict__", ()):
        return None
    first = next(kind for kind in type(detector).__mro__ if {"see", "skim"} & vars(kind).keys())
    return detector if "skim" in vars(first) else None


def disabled(part: str, guard: Guard, info: RunInfo, latest: StepReport | None, time_unix_seconds: float) -> Event:
    """Return the event of a part that has switched itself off by the latest step."""
    return Event(
        kind="probe_disabled",
        severity="warning",
        step=latest.step if latest is not None else info.initial_step,
        epoch=latest.epoch if latest is not None else info.initial_epoch,
        message=f"{part} failed {guard.faults().get(part, 0)} times and is switched off; all else goes on.",
        remedy="Report the first traceback in the log of `loopscope`, with the versions of torch and loopscope.",
        attributes={"part": part},
        run=info.run,
        agent=info.agent,
        rank=info.rank,
        time_unix_seconds=time_unix_seconds,
    )
