"""`loopscope compare A.jsonl B.jsonl`: what differs between two runs, and the first step at which they part."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..report import Log, compare, comparison_json, comparison_text
from .report import add_selection, end_progress, has_unicode, printable, progress, selection, text_width

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "say what differs between two runs; exit status 0 where both trained the same, 1 where not, 2 on an error"
_DIFFERENT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("a", type=Path, metavar="A.jsonl", help="a log that attach(jsonl=PATH) wrote")
    parser.add_argument("b", type=Path, metavar="B.jsonl", help="another one; of several runs in it the latest counts")
    parser.add_argument(
        "--rtol",
        type=_tolerance,
        default=0.0,
        metavar="X",
        help="relative difference of losses, norms and learning rates that counts as none (default: 0, bit for bit)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="print it as text (the default)")
    form.add_argument("--json", action="store_true", help="print it as one JSON object")
    add_selection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what differs; return 0 where both trained the same, up to `rtol`, else 1."""
    logs = [Log(path, progress(path)) for path in (arguments.a, arguments.b)]
    comparison = compare(logs[0], logs[1], rtol=arguments.rtol, wanted=selection(arguments))
    end_progress()
    if arguments.json:
        print(comparison_json(comparison), end="", flush=True)
    else:
        print(printable(comparison_text(comparison, width=text_width(), is_unicode=has_unicode())), end="", flush=True)
    return 0 if comparison.is_equal else _DIFFERENT


def _tolerance(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} cannot be used. Allowed: 0 and more, below 1.")
    return value
