"""Hooks that become more and more, or hold graphs; and hooks that never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..records import Event, HookCount, HookSilence, StepReport
from .incidents import Incidents, Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, SelfReport

__all__ = ["HookLeak", "HookLeakRule", "HookNeverFires", "SilentHookRule"]

_MAX_TRACKS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HookLeakRule:
    """Bounds of `hook_leak`."""

    count: float = 8
    """Hooks of one function that one place has got beyond those it had, or tensors with a graph that a hook has kept.
    Libraries put one hook, or a few at once, and take as many away.
    """
    audits: float = 4
    """Audits that found more than the one before, without one that found fewer."""


@dataclass(slots=True)
class _Growth:
    first_step: int
    first: int
    latest: int
    num_audits: int = 0
    is_told: bool = False


class HookLeak(Skimming):
    """Reports places where hooks of one function pile up, and containers that hooks fill with graphs; each once."""

    name = "hook_leak"

    def __init__(self, rule: HookLeakRule) -> None:
        self._rule = rule
        self._tracks: dict[tuple[str | None, ...], _Growth] = {}
        self.incidents = Incidents()

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return what this step's audit tells."""
        if not isinstance(report, StepReport) or not report.hooks:
            return ()
        found = [event for each in report.hooks if isinstance(each, HookCount) for event in self._take(report, each)]
        return tuple(found)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Leave them: none of them has an audit."""
        return len(stretch) - begin

    def _take(self, report: StepReport, each: HookCount) -> tuple[Event, ...]:
        key = (each.where, each.hook_kind, each.site, each.container)
        track = self._tracks.get(key)
        if track is None or each.count < track.latest:
            if len(self._tracks) < _MAX_TRACKS or track is not None:
                self._tracks[key] = _Growth(report.step, each.count, each.count)
            return ()
        track.num_audits += each.count > track.latest
        track.latest = each.count
        grown = each.count - track.first
        if track.is_told or grown < self._rule.count or track.num_audits < self._rule.audits:
            return ()
        track.is_told = True
        self.incidents.new(self.name, None, 1).see(Severity.WARNING, report.step, (each.where,))
        a_step = grown / max(1, report.step - track.first_step)
        return (_leak_event(report, each, a_step, self._rule),)


def _leak_event(report: StepReport, each: HookCount, a_step: float, rule: HookLeakRule) -> Event:
    if each.container is None:
        message = (
            f"{each.count} {each.hook_kind} hooks of {each.function} are on {each.where}, {a_step:.2g} more each step: "
            "all of them run, and keep alive what they refer to."
        )
        remedy = (
            "Register the hook once, in front of the loop, or call remove() on the handle that registering returns."
        )
    else:
        message = (
            f"The {each.hook_kind} hook {each.function} on {each.where} has put {each.count} tensors into "
            f"{each.container!r}, {a_step:.2g} more each step: they keep the graphs of all those steps alive."
        )
        remedy = "Store output.detach(), and empty the container at each step, or overwrite what the step before left."
    return event(
        report,
        "hook_leak",
        Severity.WARNING,
        message,
        remedy,
        layer=each.where,
        site=each.site,
        value=float(each.count),
        threshold=rule.count,
        attributes={"hook_kind": each.hook_kind, "function": each.function, "per_step": a_step}
        | ({} if each.container is None else {"container": each.container}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentHookRule:
    """Bounds of `hook_never_fires`."""

    looks: float = 3
    """Steps looked at on which the module's parameters got gradients and its hooks did not run."""
    idle_looks: float = 10
    """Steps looked at on which the module around it was called in training, but not it: a layer that is dropped at
    random half of the time is left out so often 1 time in 1,000.
    """


class HookNeverFires(Skimming):
    """Reports hooks that do not run though their module trains, or the module around it does; once a function.

    `info` where the function runs on as many modules as it does not: who hooks everything need not have meant each.
    """

    name = "hook_never_fires"

    def __init__(self, rule: SilentHookRule) -> None:
        self._rule = rule
        self._told: set[tuple[str, str]] = set()

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return what this step's audit tells."""
        if not isinstance(report, StepReport) or not report.hooks:
            return ()
        events: list[Event] = []
        for each in report.hooks:
            if not isinstance(each, HookSilence):
                continue
            bound = self._rule.looks if each.is_trained else self._rule.idle_looks
            key = (each.site, each.function)
            if each.num_looks >= bound and key not in self._told and len(self._told) < _MAX_TRACKS:
                self._told.add(key)
                events.append(_silence_event(report, each, bound))
        return tuple(events)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Leave them: none of them has an audit."""
        return len(stretch) - begin


def _silence_event(report: StepReport, each: HookSilence, bound: float) -> Event:
    severity = Severity.INFO if each.num_running >= each.num_silent else Severity.WARNING
    others = f" (and on {each.num_silent - 1} more)" if each.num_silent > 1 else ""
    running = f", though elsewhere ({each.num_running}) it does" if each.num_running else ""
    message = f"The {each.hook_kind} hook {each.function} on {each.where}{others} never runs{running}: "
    if each.is_compiled:
        message += "it was registered after torch.compile had compiled the model, which runs without it."
        remedy = "Register hooks before the first call of the compiled model, or call torch._dynamo.reset() after it."
    elif each.is_trained:
        message += "the module's parameters get gradients, but nothing calls the module itself."
        remedy = (
            "Call the module, module(x), in place of module.forward(x) or of functions on its weights; or put the hook "
            "on a module that is called."
        )
    else:
        message += f"the module was not called on any of {each.num_looks} training steps that were looked at."
        remedy = "Put the hook on a module that the forward calls, or have the forward call this one."
    return event(
        report,
        "hook_never_fires",
        severity,
        message,
        remedy,
        layer=each.where,
        site=each.site,
        value=float(each.num_looks),
        threshold=bound,
        attributes={"hook_kind": each.hook_kind, "function": each.function, "num_silent": each.num_silent},
    )
