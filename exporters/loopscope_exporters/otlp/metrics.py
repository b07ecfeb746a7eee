"""Metrics: the catalogued series of one agent as OTLP, anew at each export, so that what is gone is not sent on."""

from __future__ import annotations

import time
from collections.abc import Callable

from loopscope.catalog import METRICS
from loopscope.records import Event, Record, RunInfo, StepReport

from ..points import Points
from ..series import AgentSeries
from .answers import Outcome
from .distributions import Distributions
from .environment import Settings
from .exemplars import Exemplars
from .families import Families
from .messages import ExportMetricsServiceRequest, InstrumentationScope, Resource, nanoseconds
from .spans import Incident

__all__ = ["Metrics"]


class Metrics:
    """A Source of one request a turn; `add` on the worker thread, the rest on the lane's.

    Counters are cumulative from the start of the run, so that an export that is lost loses nothing. With delta
    temporality a point holds what came since the last one that was delivered.
    """

    def __init__(
        self,
        run: RunInfo,
        settings: Settings,
        resource: Resource,
        scope: InstrumentationScope,
        clock: Callable[[], float],
    ) -> None:
        self._clock, self._resource, self._scope = clock, resource, scope
        self._series = AgentSeries()
        is_exponential, is_delta = settings.has_exponential_histograms, settings.temporality != "cumulative"
        self._distributions = Distributions(is_delta=is_delta) if is_exponential else None
        self._exemplars = Exemplars() if settings.has_exemplars else None
        self._families = Families(settings.temporality, start_nanoseconds=nanoseconds(run.time_unix_seconds))
        self._has_taken = False
        self._num_undelivered = 0
        self.num_dropped = 0
        """Points that the collector has refused, and those of the last request if nobody took it."""

    @property
    def is_full(self) -> bool:
        """Whether there is too much to wait: metrics always wait for their time."""
        return False

    def add(self, record: Record) -> None:
        """Count one record in."""
        self._series.add(record)
        if isinstance(record, StepReport) and self._distributions is not None:
            self._distributions.add(record)

    def add_incident(self, incident: Incident, event: Event | None = None) -> None:
        """Link a step, or an event at it, to its span."""
        if self._exemplars is not None:
            if event is None:
                self._exemplars.add_step(incident)
            else:
                self._exemplars.add_event(event, incident)

    def take(self, *, is_last: bool) -> bytes | None:
        """Return all series of this moment as a request, once a turn."""
        if self._has_taken:
            self._has_taken = False
            return None
        self._has_taken = True
        if is_last:
            self._series.collect()  # a series that is new shows 0 at first: here nothing comes after
        return self._encode(self._series.collect())

    def settle(self, outcome: Outcome, num_rejected: int) -> None:
        """Say what became of the request: only one that was delivered is what the next one builds on."""
        is_delivered = outcome is Outcome.DELIVERED
        self._has_taken = is_delivered or outcome is Outcome.REFUSED  # RETRY ends the turn
        if is_delivered or outcome is Outcome.REFUSED:
            self.num_dropped += num_rejected if is_delivered else self._families.num_points
        self._num_undelivered = self._families.num_points if outcome is Outcome.RETRY else 0
        self._families.settle(is_delivered=is_delivered)
        for part in (self._distributions, self._exemplars):
            if part is not None:
                part.settle(is_delivered=is_delivered)

    def abandon(self) -> None:
        """Count the last request, where nobody took it; those before it are in the one after them."""
        self.num_dropped += self._num_undelivered
        self._num_undelivered = 0

    def _encode(self, points: Points) -> bytes:
        request = ExportMetricsServiceRequest()
        scope = request.resource_metrics.add(resource=self._resource).scope_metrics.add(scope=self._scope)
        distributions = None if self._distributions is None else self._distributions.take()
        exemplars = {} if self._exemplars is None else self._exemplars.take()
        self._families.begin(nanoseconds(self._clock()), distributions, exemplars)
        for entry in METRICS:
            self._families.put(scope, entry, points[entry.name])
            # Encoding holds the GIL; a training loop that waits for it gets it here, not 5 ms later.
            time.sleep(0)
        self._families.put_gone(scope)
        body: bytes = request.SerializeToString()
        return body
