"""`loopscope report RUN.jsonl`: what a log tells, as one HTML file that loads nothing, or as text."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import loopscope

from ..report import Log, Selection, html_page, summarise, text_report
from ..report.humanise import bytes_, count

__all__ = [
    "SUMMARY",
    "add_arguments",
    "add_selection",
    "end_progress",
    "has_unicode",
    "printable",
    "progress",
    "run",
    "selection",
    "text_width",
]

SUMMARY = "show what the log of a run tells: one HTML file beside it, or --text"
_MIN_WIDTH = 60
_MAX_WIDTH = 120
_PIPE_WIDTH = 100
"""Of a text that goes into a file or a pipe."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("log", type=Path, metavar="RUN.jsonl", help="the log that attach(jsonl=PATH) wrote")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.html", help="file to write (default: RUN.html)")
    parser.add_argument("--text", action="store_true", help="print the report instead")
    add_selection(parser)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Declare which of several runs, agents and ranks in one log are meant."""
    parser.add_argument("--run", dest="only_run", metavar="NAME", help="this run only")
    parser.add_argument("--agent", metavar="NAME", help="this agent only")
    parser.add_argument("--rank", type=int, metavar="N", help="this rank only")


def run(arguments: argparse.Namespace) -> int:
    """Write or print the report; return 0. A log that cannot be used is a SettingError."""
    if arguments.text and arguments.output:
        raise _wrong(arguments.output, "no file together with --text", "Leave out one of them, or redirect the output.")
    log = Log(arguments.log, progress(arguments.log))
    output: Path = arguments.output or _beside(arguments.log)
    if not arguments.text and output.resolve() in {path.resolve() for path in log.files()}:
        raise _wrong(output, "a file that is not the log itself", "Name the page RUN.html.")
    summary = summarise(log, selection(arguments))
    end_progress()
    if arguments.text:
        print(printable(text_report(summary, width=text_width(), is_unicode=has_unicode())), end="", flush=True)
        return 0
    page = html_page(summary).encode("utf-8", errors="replace")
    try:
        output.write_bytes(page)
    except OSError as fault:
        raise _wrong(output, "a file that can be written", f"Choose another ({fault.strerror}).") from fault
    print(f"{output}: {bytes_(len(page))}, of {count(log.num_entries)} lines", flush=True)
    return 0


def selection(arguments: argparse.Namespace) -> Selection:
    """Return what was declared by `add_selection`."""
    return Selection(run=arguments.only_run, agent=arguments.agent, rank=arguments.rank)


def progress(path: Path) -> Callable[[int], None]:
    """Return what is told how many lines were read: it says so on a terminal, and nowhere else."""

    def tell(num_lines: int) -> None:
        print(f"\r{path.name}: {num_lines:,} lines ", end="", file=sys.stderr, flush=True)

    return tell if sys.stderr.isatty() else lambda _: None


def end_progress() -> None:
    """Clear the line that `progress` wrote."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _beside(log: Path) -> Path:
    return log.with_suffix(".html") if log.suffix == ".jsonl" else log.with_name(f"{log.name}.html")


def text_width() -> int:
    """Return the width of the terminal, within bounds; a file or a pipe has one of its own."""
    if not sys.stdout.isatty():
        return _PIPE_WIDTH
    return min(max(shutil.get_terminal_size().columns, _MIN_WIDTH), _MAX_WIDTH)


def has_unicode() -> bool:
    """Whether what is printed may hold characters beyond ASCII."""
    return (sys.stdout.encoding or "").lower().replace("-", "") in {"utf8", "utf8sig", "utf16"}


def printable(text: str) -> str:
    """Return a text as it can be printed: what the output's encoding lacks, as in names of files, is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _wrong(output: Path, allowed: str, remedy: str) -> loopscope.SettingError:
    return loopscope.SettingError("output", str(output), allowed=allowed, remedy=remedy)
