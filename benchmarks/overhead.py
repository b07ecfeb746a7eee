"""Measure what loopscope costs, beside the bare loop and what people write by hand; writes results.json and results.md.

    python benchmarks/overhead.py                       # everything; hours, as blocks hold ten sampling intervals
    python benchmarks/overhead.py --quick               # a smoke run of about a minute: the numbers mean little
    python benchmarks/overhead.py --workload tiny_step --contender loopscope --contender null --pairs 9

Ratios are CPU time of the whole process (all threads) per step, contender over bare, in blocks longer than ten of
loopscope's sampling intervals (as far as --max-block-seconds allows: the table says where it did not), interleaved,
each side in a fresh process. See docs/architecture.md and the README.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import footprint
from comparison import Effort, compare

import report

__all__: list[str] = []

_HERE = Path(__file__).resolve().parent
_PARTIAL = _HERE.parent / "build" / "benchmarks"
"""Where partial and quick runs write, so that they do not replace the results of a whole one."""
_WORKLOADS = ("resnet", "gpt", "tiny_tensors", "tiny_step")
_CONTENDERS = ("loopscope", "loopscope_jsonl", "null", "norm_item", "five_items")
_QUICK_CONTENDERS = ("loopscope", "null")
_FULL = Effort(pairs=5, warm_up_seconds=3.0, min_block_seconds=3.0, max_block_seconds=600.0)
_QUICK = Effort(
    pairs=1,
    warm_up_seconds=0.2,
    min_block_seconds=0.2,
    max_block_seconds=0.5,
    slice_seconds=0.1,
    settling_rounds=1,
    min_steps=1,
)


def main() -> None:
    """Run what the command line asks for and write the results."""
    options = _parse()
    effort = _QUICK if options.quick else _FULL
    if options.pairs is not None:
        effort = dataclasses.replace(effort, pairs=options.pairs)
    if options.max_block_seconds is not None:
        effort = dataclasses.replace(effort, max_block_seconds=options.max_block_seconds)
    is_whole = not options.workload and not options.contender
    folder = options.output or (_HERE if is_whole and not options.quick else _PARTIAL)
    names = options.contender or (_QUICK_CONTENDERS if options.quick else _CONTENDERS)
    results: dict[str, Any] = {
        "machine": report.machine(),
        "command": " ".join(["overhead.py", *sys.argv[1:]]),
        "is_quick": options.quick,
        "effort": dataclasses.asdict(effort),
        "workloads": [],
    }
    begin = time.monotonic()
    for workload in options.workload or _WORKLOADS:
        compared: list[dict[str, Any]] = []
        results["workloads"].append({"name": workload, "contenders": compared})
        for contender in _measure(workload, names, effort, begin):
            compared.append(contender)
            _save(folder, results)  # at once: what comes next may fail
    if options.footprint or is_whole:
        results["footprint"] = footprint.measure(lambda text: _say(begin, text), is_quick=options.quick)
    results["seconds"] = time.monotonic() - begin
    print(f"\n{_save(folder, results)}\nwritten: {folder / 'results.json'}, {folder / 'results.md'}")


def _save(folder: Path, results: dict[str, Any]) -> str:
    """Write what there is so far and return it as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    table = report.markdown(results)
    (folder / "results.md").write_text(table)
    return table


def _measure(workload: str, names: Sequence[str], effort: Effort, begin: float) -> Iterator[dict[str, Any]]:
    """Yield the comparison of each contender; null runs blocks of loopscope's length, to show the noise of such."""
    block_steps: int | None = None
    for name in sorted(names, key=_CONTENDERS.index):
        length = block_steps if name == "null" else None
        compared = compare(workload, name, effort, lambda text: _say(begin, text), length)
        if name == "loopscope":
            block_steps = compared["block_steps"]
        yield compared


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of about a minute; its numbers mean little")
    parser.add_argument("--workload", action="append", choices=_WORKLOADS, help="only this one; may be repeated")
    parser.add_argument("--contender", action="append", choices=_CONTENDERS, help="only this one; may be repeated")
    parser.add_argument("--pairs", type=int, help="pairs of blocks for each contender (5; quick: 1)")
    parser.add_argument("--max-block-seconds", type=float, help="cut blocks at this length (600; quick: 0.5)")
    parser.add_argument(
        "--footprint", action="store_true", help="also import, attach, memory, scrapes (a whole run does)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of results.json and results.md (this one; partial and quick runs: build/benchmarks)",
    )
    return parser.parse_args()


def _say(begin: float, text: str) -> None:
    print(f"[{time.monotonic() - begin:5.0f} s] {text}", flush=True)


if __name__ == "__main__":
    main()
