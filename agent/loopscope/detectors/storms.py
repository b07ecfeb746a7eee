"""Storms: a line that waits for the device again and again, code that is compiled again and again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..records import Event, StepReport
from .incidents import Incident, Incidents, Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, SelfReport

__all__ = ["DeviceSyncStorm", "RecompileStorm", "RecompileStormRule", "SyncStormRule"]

_WINDOWS_TO_CLOSE = 2
_MAX_LINES = 256
"""Lines counted in one window; further ones are left out."""
_MAX_RECOMPILATIONS = 256
_RECOMPILATIONS_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStormRule:
    """Bounds of `device_sync_storm`, over a window of steps."""

    window_steps: float = 25
    """Steps of a window, at whose end it is judged."""
    steps_share: float = 0.8
    """Share of the window's steps on which the line waits."""
    count: float = 5
    """Waits a step that are a storm whatever they cost: one for the loss is the habit of most loops, five are a loop
    over tensors (https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html, avoid CPU-GPU synchronization).
    """
    blocked_share: float = 0.2
    """Share of the steps' time spent waiting that makes a storm of `blocked_count` waits."""
    blocked_count: float = 2
    """A single wait a step moves the host's idle time and costs little; from two on the device idles between them."""


@dataclass(slots=True)
class _Line:
    """One line and kind within a window."""

    num_steps: int = 0
    count: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Window:
    """The window under way of one optimizer."""

    num_reports: int = 0
    num_steps: int = 0
    seconds: float = 0.0
    lines: dict[tuple[str, str], _Line] = field(default_factory=dict)


class DeviceSyncStorm:
    """Reports a line that waits for the device on most steps, often or for long; allowed syncs do not count."""

    name = "device_sync_storm"

    def __init__(self, rule: SyncStormRule) -> None:
        self._rule = rule
        self.incidents = Incidents()
        self._windows: dict[str | None, _Window] = {}
        self._open: dict[str | None, Incident] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step's window opens."""
        if not isinstance(report, StepReport):
            return ()
        window = self._windows.get(report.optimizer)
        if window is None:
            window = self._windows[report.optimizer] = _Window()
        window.num_reports += 1
        window.num_steps += max(report.num_steps, 1)
        window.seconds += report.duration_seconds or 0.0
        if report.syncs:
            _count(report, window)
        if window.num_reports < self._rule.window_steps:
            return ()
        self._windows[report.optimizer] = _Window()
        incident = self._open.get(report.optimizer)
        if incident is None:
            incident = self._open[report.optimizer] = self.incidents.new(self.name, report.optimizer, _WINDOWS_TO_CLOSE)
        storms = [(key, line) for key, line in window.lines.items() if self._is_storm(line, window)]
        if not storms:
            incident.see_calm()
            return ()
        if not incident.see(Severity.WARNING, report.step):
            return ()
        where, line = max(storms, key=lambda entry: (entry[1].seconds, entry[1].count))
        return (_sync_event(report, where, line, window, self._rule),)

    def _is_storm(self, line: _Line, window: _Window) -> bool:
        rule = self._rule
        if line.num_steps < rule.steps_share * window.num_reports:
            return False
        a_step = line.count / window.num_steps
        is_long = line.seconds > rule.blocked_share * window.seconds > 0
        return a_step >= rule.count or (is_long and a_step >= rule.blocked_count)


def _count(report: StepReport, window: _Window) -> None:
    seen = set()
    for sync in report.syncs:
        key = (sync.site, sync.kind)
        if sync.is_allowed or (key not in window.lines and len(window.lines) >= _MAX_LINES):
            continue
        line = window.lines.setdefault(key, _Line())
        line.num_steps += key not in seen
        line.count += sync.count
        line.seconds += sync.seconds
        seen.add(key)


def _sync_event(report: StepReport, where: tuple[str, str], line: _Line, window: _Window, rule: SyncStormRule) -> Event:
    (site, kind), a_step = where, line.count / window.num_steps
    share = line.seconds / window.seconds if window.seconds else 0.0
    return event(
        report,
        "device_sync_storm",
        Severity.WARNING,
        f"{site} waits for the device {a_step:.3g} times a step ({kind}), {share:.0%} of the step's time.",
        "Keep the values on the device and read them together, every so many steps, or after the loop; what has to "
        "wait can be named in allow_syncs.",
        site=site,
        value=a_step,
        threshold=rule.count if a_step >= rule.count else rule.blocked_count,
        attributes={"sync": kind, "blocked_share": share},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecompileStormRule:
    """Bounds of `recompile_storm`."""

    count: float = 5
    """Recompilations, expected ones left out. torch.compile gives a frame up after 8 (torch._dynamo.config)."""
    window_steps: float = 100
    """Steps within which they come."""


class RecompileStorm(Skimming):
    """Reports that compiled code is compiled again and again."""

    name = "recompile_storm"

    def __init__(self, rule: RecompileStormRule) -> None:
        self._rule = rule
        self._found: deque[tuple[int, str]] = deque(maxlen=max(int(rule.count), _MAX_RECOMPILATIONS))
        self.incidents = Incidents()
        self._incident = self.incidents.new(self.name, None, 1)

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        if not isinstance(report, StepReport):
            return ()
        found = self._found
        while found and found[0][0] <= report.step - self._rule.window_steps:
            found.popleft()
        if not found:
            self._incident.close()
        if not report.events:
            return ()
        found.extend(
            (report.step, each.site or "")
            for each in report.events
            if each.kind == "recompilation" and each.severity != "info"
        )
        if len(found) < self._rule.count or not self._incident.see(Severity.WARNING, report.step):
            return ()
        sites = [site for _, site in found]
        ranked = sorted(dict.fromkeys(sites), key=lambda site: -sites.count(site))
        return (
            event(
                report,
                "recompile_storm",
                Severity.WARNING,
                f"{len(sites)} recompilations within {self._rule.window_steps:g} steps, most of them at {ranked[0]}.",
                "See the reasons in the events `recompilation`; mark what varies with torch._dynamo.mark_dynamic or "
                "compile with dynamic=True, and pad batches to few shapes.",
                site=ranked[0] or None,
                value=float(len(sites)),
                threshold=self._rule.count,
                attributes={"sites": ranked[:_RECOMPILATIONS_NAMED]},
            ),
        )

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Leave them, where no recompilation is within the window: they have no events."""
        return 0 if self._found or self._incident.severity else len(stretch) - begin
