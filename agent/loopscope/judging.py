"""Judge: what the detectors make of a report, with causes and the health that follows; each detector behind a guard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .detectors.causes import Causes
from .detectors.health import Health
from .detectors.moments import Moments
from .guard import Guard
from .protocols import Detector
from .records import EpochReport, Event, HealthReport, LayerState, RunInfo, SelfReport, StepReport

__all__ = ["Judge"]


class Judge:
    """The detectors of one agent; the worker owns it."""

    def __init__(self, info: RunInfo, detectors: Sequence[Detector], guard: Guard) -> None:
        self._info = info
        self._guard = guard
        self._detectors = [(detector.see, guard.at(f"detector.{detector.name}")) for detector in detectors]
        self._causes, self._health, self._moments = Causes(info.layer_ranks), Health(detectors), Moments()
        self._site = guard.at("health")
        self._has_health = False

    @property
    def layers(self) -> Mapping[str | None, Mapping[str, LayerState]]:
        """By optimizer, the layers that are not healthy."""
        return self._health.layers

    def judge(self, report: StepReport | EpochReport | SelfReport, noted: Sequence[Event] = ()) -> Sequence[Event]:
        """Return the events of a report, those of notes included: the first causes first."""
        events = [*noted, *self._guard.gather(self._detectors, report)]
        if self._site.is_enabled:
            with self._site:
                if isinstance(report, StepReport):
                    self._moments.add(report, noted)
                    self._causes.see(report)
                self._has_health |= self._health.look()
        return self.group(events) if events else ()

    def group(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return events with their incidents and with what happened at their step."""
        if self._site.is_enabled:
            with self._site:
                self._has_health |= self._health.note(events)
                return [self._moments.explain(event) for event in self._causes.group(events, self._health.anomalies)]
        return events

    def health(self, step: int, time_unix_seconds: float) -> Iterable[HealthReport]:
        """Yield the health of this moment where it has changed since the last time."""
        if self._has_health:
            self._has_health = False
            info = self._info
            yield HealthReport(
                run=info.run,
                agent=info.agent,
                rank=info.rank,
                time_unix_seconds=time_unix_seconds,
                step=step,
                anomalies=self._health.anomalies,
                layers=self._health.layers,
            )
