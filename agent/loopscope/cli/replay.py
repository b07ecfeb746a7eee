"""`loopscope replay RUN.jsonl`: what the detectors say of a recorded run, with other rules say."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from ..config import Config
from ..detectors import DEFAULT_RULES, default_detectors
from ..detectors.causes import ungrouped
from ..guard import Guard
from ..judging import BATCH_REPORTS, Judge, Verdict
from ..records import Event, Record, RunInfo, StepReport
from ..report import Log
from .report import end_progress, progress

__all__ = ["SUMMARY", "add_arguments", "replay", "run"]

SUMMARY = "judge a recorded run again, with the rules given"
_SEVERITIES = ("info", "warning", "critical")
_Key = tuple[str, str, int | None]
"""Run, agent and rank."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("log", type=Path, help="a log that attach(jsonl=PATH) has written")
    parser.add_argument(
        "--rule", action="append", default=[], metavar="RULE", help="as gradient_spike.z_score=8 or dead_layer=off"
    )
    parser.add_argument("--severity", choices=_SEVERITIES, default="warning", help="the least to be shown (warning)")


def run(arguments: argparse.Namespace) -> int:
    """Print one line an event, then what was read and what could not be; 0."""
    begin, num_steps, shown = perf_counter(), 0, 0
    log = Log(arguments.log, progress(arguments.log))
    for record in replay(log, Config(rules=tuple(arguments.rule))):
        if isinstance(record, StepReport):
            num_steps += 1
        elif _SEVERITIES.index(record.severity) >= _SEVERITIES.index(arguments.severity):
            shown += 1
            end_progress()
            print(_line(record), flush=True)
    end_progress()
    print(f"{num_steps:,} steps read in {perf_counter() - begin:.1f} s; {shown:,} events", *log.notes(), sep="\n")
    return 0


def replay(log: Log, config: Config) -> Iterator[StepReport | Event]:
    """Yield each step of a log and then the events that the detectors of `config` open at it, one log at a time.

    Events that did not come from detectors (compilations, syncs, writes in place) are taken from the log, and stand in
    the report of their step. Memory: some 32 steps. Raises SettingError for rules that do not exist, and for a log that
    cannot be read; entries that lack what every version has are counted in `log.num_unknown_lines`.
    """
    default_detectors(config)  # a wrong rule is told before anything is read
    agents: dict[_Key, _Agent] = {}
    waiting: list[_Step] = []
    for record in _records(log):
        if isinstance(record, RunInfo) and _key(record) not in agents:
            agents[_key(record)] = _Agent(Judge(record, default_detectors(config), Guard(strict=True)))
        elif isinstance(record, Event) and record.kind not in DEFAULT_RULES and _key(record) in agents:
            yield from agents[_key(record)].note(record)
        elif isinstance(record, StepReport):
            if len(waiting) >= BATCH_REPORTS:
                yield from _judge(agents, waiting)
                waiting.clear()
            waiting.append(_Step(record))
            if _key(record) in agents:
                agents[_key(record)].waiting.append(waiting[-1])
    yield from _judge(agents, waiting)


def _records(log: Log) -> Iterator[Record]:
    decoder = importlib.import_module("loopscope_exporters.decoding").Decoder()
    for entry in log:
        try:
            record = decoder.decode(entry)
        except (AttributeError, KeyError, TypeError, ValueError):
            log.num_unknown_lines += 1
            continue
        if record is not None:
            yield record


@dataclass(slots=True)
class _Step:
    """A step of the log that is to be judged, and what came of it."""

    report: StepReport
    noted: list[Event] = field(default_factory=list)
    """Events of its notes."""
    later: list[Event] = field(default_factory=list)
    """Those that were noted after it, outside the steps."""
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class _Agent:
    """Who judges the steps of one agent, and those that wait for it."""

    judge: Judge
    waiting: list[_Step] = field(default_factory=list)

    def note(self, event: Event) -> Sequence[Event]:
        """Take in what was noted of the latest step, or after it; return the event where there is no step yet."""
        event = ungrouped(event)
        if not self.waiting:
            return self.judge.group([event])
        step = self.waiting[-1]
        (step.noted if event.step == step.report.step else step.later).append(event)
        return ()

    def see(self) -> None:
        """Judge the steps that wait."""
        steps = iter(self.waiting)

        def conclude(_: StepReport, verdict: Verdict) -> None:
            step = next(steps)
            step.events = [*verdict.events, *self.judge.group(step.later)]

        for step in self.waiting:
            if step.noted:
                step.report = dataclasses.replace(step.report, events=tuple(step.noted))
        self.judge.judge_all([step.report for step in self.waiting], [step.noted for step in self.waiting], conclude)
        self.waiting = []


def _judge(agents: Mapping[_Key, _Agent], steps: Iterable[_Step]) -> Iterator[StepReport | Event]:
    for agent in agents.values():
        agent.see()
    for step in steps:
        yield step.report
        yield from step.events


def _key(record: Any) -> _Key:
    return record.run, record.agent, record.rank


def _line(event: Event) -> str:
    where = event.layer or event.site or "-"
    cause = "first cause" if event.first_cause else f"after {event.attributes.get('cause', '-')}"
    who = event.agent if event.rank is None else f"{event.agent} rank {event.rank}"
    return f"{who} step {event.step}  {event.severity:8}  {event.kind:22} {where:20} {cause}: {event.message}"
