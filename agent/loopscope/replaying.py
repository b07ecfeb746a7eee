"""Replaying: the steps of a log judged again, as the worker judged them, with the rules given."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field

from .config import Config
from .detectors import DEFAULT_RULES, default_detectors
from .detectors.causes import ungrouped
from .guard import Guard
from .judging import BATCH_REPORTS, Judge, Verdict, disabled
from .records import Event, Record, RunInfo, StepReport
from .report import Log

__all__ = ["replay"]

_Key = tuple[str, str, int | None]
"""Run, agent and rank."""


def replay(log: Log, config: Config) -> Iterator[StepReport | Event]:
    """Yield each step of a log, and after it the events that the rules of `config` make of it and those that stay.

    What no rule makes (compilations, writes in place, steps over the sync budget) is taken from the log, and where it
    is of the step it stands in its report. Several runs may follow each other. Lines of several agents may be mixed,
    where the events of a step stand behind it. A detector that fails too often is told of as `probe_disabled`, behind
    the last step of its run. Memory: some 32 steps, and what the detectors keep of each run. Raises
    SettingError for rules that do not exist, before anything is read, and for a log that cannot be read; entries that
    cannot be understood are counted as the log's unknown lines.
    """
    default_detectors(config)
    return _Replay(config).records(log)


def _understood(log: Log) -> Iterator[Record]:
    decoder = importlib.import_module("loopscope_exporters.decoding").Decoder()
    for entry in log:
        try:
            record = decoder.decode(entry)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
            log.reject()
            continue
        if record is not None:
            yield record


@dataclass(slots=True, eq=False)
class _Step:
    """A step that waits to be judged, and what comes of it."""

    report: StepReport
    agent: _Agent
    noted: list[Event] = field(default_factory=list)
    """What was noted of it."""
    between: list[Event] = field(default_factory=list)
    """What was noted after it, of no step."""
    events: list[Event] = field(default_factory=list)

    def note(self, event: Event) -> None:
        """Take in an event that stands behind the step: of its notes where it has the step's own time."""
        is_of_step = (event.step, event.time_unix_seconds) == (self.report.step, self.report.time_unix_seconds)
        (self.noted if is_of_step else self.between).append(event)


@dataclass(slots=True, eq=False)
class _Agent:
    """Who judges the steps of one agent in one run, and those that wait for it."""

    info: RunInfo
    is_known: bool
    """Whether the log has the line of the run."""
    config: InitVar[Config]
    guard: Guard = field(default_factory=Guard)
    judge: Judge = field(init=False)
    waiting: list[_Step] = field(default_factory=list)
    latest: StepReport | None = None

    def __post_init__(self, config: Config) -> None:
        self.judge = Judge(self.info, default_detectors(config), self.guard)

    def judge_all(self) -> None:
        """Judge the steps that wait."""
        steps, self.waiting = self.waiting, []
        for step in steps:
            self.latest = step.report
            if step.noted:
                step.report = dataclasses.replace(step.report, events=tuple(step.noted))
        rest = iter(steps)

        def take(_: StepReport, verdict: Verdict) -> None:
            step = next(rest)
            step.events += verdict.events
            for event in step.between:  # each by itself: those of one look of the worker are in their order already
                step.events += self.judge.group([event])

        self.judge.judge_all([step.report for step in steps], [step.noted for step in steps], take)

    def faults(self) -> Iterator[Event]:
        """Tell of detectors that failed too often, which is a fault of ours."""
        time_unix_seconds = self.info.time_unix_seconds if self.latest is None else self.latest.time_unix_seconds
        for part in self.guard.disabled():
            yield disabled(part, self.guard, self.info, self.latest, time_unix_seconds)


class _Replay:
    """The agents of one log, and the steps that wait, in the order of their lines."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._agents: dict[_Key, _Agent] = {}
        self._waiting: list[_Step] = []

    def records(self, log: Log) -> Iterator[StepReport | Event]:
        """Yield steps and events."""
        for record in _understood(log):
            if isinstance(record, StepReport):
                if len(self._waiting) >= BATCH_REPORTS:
                    yield from self._judge()
                self._await(record)
            elif isinstance(record, RunInfo):
                yield from self._begin(record)
            elif isinstance(record, Event) and not _is_judged(record):
                yield from self._note(ungrouped(record))
        yield from self._judge()
        for agent in self._agents.values():
            yield from agent.faults()

    def _begin(self, info: RunInfo) -> Iterator[StepReport | Event]:
        """Begin a run, which may have the name of one before; each file of a log repeats the line of its run."""
        agent = self._agents.get(_key(info))
        if agent is not None and not agent.is_known:
            agent.info, agent.is_known = info, True
        elif agent is None or agent.info != info:
            yield from self._judge()
            if agent is not None:
                yield from agent.faults()
            self._agents[_key(info)] = _Agent(info, is_known=True, config=self._config)

    def _await(self, report: StepReport) -> None:
        agent = self._agents.get(_key(report))
        if agent is None:
            agent = self._agents[_key(report)] = _Agent(_info(report), is_known=False, config=self._config)
        agent.waiting.append(_Step(report, agent))
        self._waiting.append(agent.waiting[-1])

    def _note(self, event: Event) -> Iterator[StepReport | Event]:
        agent = self._agents.get(_key(event))
        if agent is not None and agent.waiting:
            agent.waiting[-1].note(event)
            return
        yield from self._judge()
        yield from [event] if agent is None else agent.judge.group([event])

    def _judge(self) -> Iterator[StepReport | Event]:
        steps, self._waiting = self._waiting, []
        for agent in dict.fromkeys(step.agent for step in steps):
            agent.judge_all()
        for step in steps:
            yield step.report
            yield from step.events


@functools.cache
def _own_parts() -> frozenset[str]:
    return frozenset({"health", *(f"detector.{detector.name}" for detector in default_detectors())})


def _is_judged(event: Event) -> bool:
    """Whether an event is of a default detector's making, or of its failing: both may be otherwise now."""
    if event.kind == "probe_disabled":
        return str(event.attributes.get("part")) in _own_parts()
    return event.kind in DEFAULT_RULES


def _key(record: RunInfo | StepReport | Event) -> _Key:
    return record.run, record.agent, record.rank


def _info(report: StepReport) -> RunInfo:
    """Return what is known of a run whose own line is missing; its layers are in the order of the parameters."""
    layers = report.gradients.layers if report.gradients is not None else ()
    return RunInfo(
        run=report.run,
        agent=report.agent,
        rank=report.rank,
        time_unix_seconds=report.time_unix_seconds,
        model="",
        num_parameters=len(report.gradients.names) if report.gradients is not None else 0,
        num_elements=0,
        layers=layers,
        layer_ranks={layer: rank for rank, layer in enumerate(layers)},
        initial_step=report.step,
        initial_epoch=report.epoch,
        versions={},
        settings={},
        host="",
        pid=0,
    )
