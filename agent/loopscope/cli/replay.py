"""`loopscope replay RUN.jsonl`: what the detectors make of a recorded run with other rules."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

from ..config import Config
from ..records import Event, StepReport
from ..replaying import replay
from ..report import Log
from .report import end_progress, printable, progress

__all__ = ["SUMMARY", "add_arguments", "run"]

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
    """Print one line an event, what of ours failed among them, then what was read and what could not be; 0."""
    begin, num_steps, shown = perf_counter(), 0, 0
    log = Log(arguments.log, progress(arguments.log))
    try:
        for record in replay(log, Config(rules=tuple(arguments.rule))):
            if isinstance(record, StepReport):
                num_steps += 1
            elif _rank(record.severity) >= _rank(arguments.severity) or record.kind == "probe_disabled":
                shown += 1
                end_progress()
                print(printable(_line(record)), flush=True)
    finally:
        end_progress()
    print(f"{num_steps:,} steps read in {perf_counter() - begin:.1f} s; {shown:,} events", *log.notes(), sep="\n")
    return 0


def _rank(severity: str) -> int:
    """Return how bad it is; what a later version calls by another name is a warning."""
    return _SEVERITIES.index(severity if severity in _SEVERITIES else "warning")


def _line(event: Event) -> str:
    where = event.layer or event.site or "-"
    cause = "first cause" if event.first_cause else f"after {event.attributes.get('cause', '-')}"
    who = event.agent if event.rank is None else f"{event.agent} rank {event.rank}"
    return f"{who} step {event.step}  {event.severity:8}  {event.kind:22} {where:20} {cause}: {event.message}"
