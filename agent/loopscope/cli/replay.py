"""`loopscope replay RUN.jsonl`: what the detectors say of a recorded run, with other rules say."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from ..config import Config
from ..detectors import DEFAULT_RULES, default_detectors
from ..errors import SettingError
from ..guard import Guard
from ..judging import Judge
from ..records import Event, RunInfo, StepReport

__all__ = ["SUMMARY", "add_arguments", "replay", "run"]

SUMMARY = "judge a recorded run again, with the rules given"
_SEVERITIES = ("info", "warning", "critical")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("log", type=Path, help="a log that attach(jsonl=PATH) has written")
    parser.add_argument(
        "--rule", action="append", default=[], metavar="RULE", help="as gradient_spike.z_score=8 or dead_layer=off"
    )
    parser.add_argument("--severity", choices=_SEVERITIES, default="warning", help="the least to be shown (warning)")


def run(arguments: argparse.Namespace) -> int:
    """Print one line an event, then what was read; 0."""
    path: Path = arguments.log
    if not path.is_file():
        raise SettingError(
            "log",
            str(path),
            allowed="a log that loopscope.attach(jsonl=PATH) has written",
            remedy="There is no such file.",
        )
    begin, num_steps, shown = perf_counter(), 0, 0
    for record in replay(path, Config(rules=tuple(arguments.rule))):
        if isinstance(record, StepReport):
            num_steps += 1
        elif _SEVERITIES.index(record.severity) >= _SEVERITIES.index(arguments.severity):
            shown += 1
            print(_line(record))
    print(f"{num_steps:,} steps read in {perf_counter() - begin:.1f} s; {shown:,} events")
    return 0


def replay(path: Path, config: Config) -> Iterator[StepReport | Event]:
    """Yield each step of a log and then the events that the detectors of `config` open at it, one log at a time.

    Events that did not come from detectors (compilations, syncs, writes in place) are taken from the log. Memory: one
    step. Raises SettingError for rules that do not exist.
    """
    default_detectors(config)  # a wrong rule is told before anything is read
    reader = importlib.import_module("loopscope_exporters.jsonl").read(path)
    decoder = importlib.import_module("loopscope_exporters.decoding").Decoder()
    judges: dict[tuple[str, str, int | None], Judge] = {}
    waiting: list[tuple[StepReport, list[Event]]] = []
    for entry in reader:
        record = decoder.decode(entry)
        if isinstance(record, RunInfo) and _key(record) not in judges:
            judges[_key(record)] = Judge(record, default_detectors(config), Guard(strict=True))
        elif isinstance(record, Event) and record.kind not in DEFAULT_RULES and waiting:
            waiting[0][1].append(record)
        elif isinstance(record, StepReport):
            yield from _judge(judges, waiting)
            waiting.append((record, []))
    yield from _judge(judges, waiting)


def _judge(
    judges: dict[tuple[str, str, int | None], Judge], waiting: list[tuple[StepReport, list[Event]]]
) -> Iterator[StepReport | Event]:
    while waiting:
        report, noted = waiting.pop()
        yield report
        judge = judges.get(_key(report))
        if judge is not None:
            yield from judge.judge(report, noted).events


def _key(record: Any) -> tuple[str, str, int | None]:
    return record.run, record.agent, record.rank


def _line(event: Event) -> str:
    where = event.layer or event.site or "-"
    cause = "first cause" if event.first_cause else f"after {event.attributes.get('cause', '-')}"
    who = event.agent if event.rank is None else f"{event.agent} rank {event.rank}"
    return f"{who} step {event.step}  {event.severity:8}  {event.kind:22} {where:20} {cause}: {event.message}"
