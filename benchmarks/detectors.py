"""What the detectors cost: 100,000 recorded steps of 64 layers, by CPU time, and what they keep of them.

    python benchmarks/detectors.py [--steps N] [--layers N] [--replay]

The steps are made up: norms that vary by factors, a loss that falls, a sample every 50 steps, a NaN every 10,000. They
are judged 32 at once, as in a fast loop and in `loopscope replay`, and only that is timed. With `--replay` they are
written to a log before (400 MB in the folder for temporary files), and the whole of `loopscope replay` is timed, and
what of it is the detectors'.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import pickle
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from loopscope.config import Config
from loopscope.detectors import default_detectors
from loopscope.guard import Guard
from loopscope.judging import BATCH_REPORTS, Judge, Verdict
from loopscope.records import NUM_EXPONENT_BINS, Event, GradientSample, GradientTable, RunInfo, StepReport
from loopscope.replaying import replay
from loopscope.report import Log
from loopscope_exporters.jsonl import JsonlExporter

_BLOCK = 5_000


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--layers", type=int, default=64)
    parser.add_argument("--replay", action="store_true", help="write a log, and time `loopscope replay` of it")
    arguments = parser.parse_args()
    layers = tuple(f"layer{index}" for index in range(arguments.layers))
    (_replay if arguments.replay else _judge)(arguments.steps, layers)


def _judge(num_steps: int, layers: tuple[str, ...]) -> None:
    judge = Judge(_run(layers), default_detectors(), Guard(strict=True))
    spent, num_events, sizes = 0.0, 0, []

    def count(_: StepReport, verdict: Verdict) -> None:
        nonlocal num_events
        num_events += len(verdict.events)

    for begin in range(0, num_steps, _BLOCK):
        reports = list(_reports(begin, min(begin + _BLOCK, num_steps), layers))
        batches = [reports[place : place + BATCH_REPORTS] for place in range(0, len(reports), BATCH_REPORTS)]
        start = time.process_time()
        for batch in batches:
            judge.judge_all(batch, [()] * len(batch), count)
        spent += time.process_time() - start
        sizes.append(_size(judge))
    print(
        f"{_said(num_steps, layers, spent)}, {num_events} events; "
        f"kept {sizes[0] / 1e3:.0f} kB after the first {_BLOCK:,}, {sizes[-1] / 1e3:.0f} kB at the end"
    )


def _replay(num_steps: int, layers: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        exporter = JsonlExporter(path, max_bytes=1 << 40, num_files=1)
        exporter.export(_run(layers))
        for begin in range(0, num_steps, _BLOCK):
            for report in _reports(begin, min(begin + _BLOCK, num_steps), layers):
                exporter.export(report)
        exporter.close()
        with _judging() as judged:
            start = time.process_time()
            num_events = sum(isinstance(record, Event) for record in replay(Log(path), Config()))
            spent = time.process_time() - start
        said = _said(num_steps, layers, spent)
        size, detectors = f"{path.stat().st_size / 1e6:.0f} MB", f"{sum(judged):.2f} s of it in the detectors"
        print(f"replay of a log of {size}, {said}, {detectors}; {num_events} events")


@contextlib.contextmanager
def _judging() -> Iterator[list[float]]:
    """Have the CPU time of each batch that is judged be in the list."""
    judge_all, spent = Judge.judge_all, []

    def timed(self: Judge, *arguments: Any) -> None:
        start = time.process_time()
        judge_all(self, *arguments)
        spent.append(time.process_time() - start)

    with mock.patch.object(Judge, "judge_all", timed):
        yield spent


def _said(num_steps: int, layers: tuple[str, ...], spent: float) -> str:
    return f"{num_steps:,} steps of {len(layers)} layers: {spent:.2f} s of CPU, {1e6 * spent / num_steps:.0f} us a step"


def _size(judge: Judge) -> int:
    """Return the bytes of everything that the detectors keep, reports that wait for the next step included."""
    return len(pickle.dumps([witness.detector for witness in judge._witnesses]))


def _run(layers: tuple[str, ...]) -> RunInfo:
    return RunInfo(
        run="benchmark", agent="model", rank=None, time_unix_seconds=0.0, model="", num_parameters=len(layers),
        num_elements=0, layers=layers, layer_ranks={layer: rank for rank, layer in enumerate(layers)}, initial_step=0,
        initial_epoch=0, versions={}, settings={}, host="", pid=0,
    )  # fmt: skip


def _reports(begin: int, end: int, layers: tuple[str, ...]) -> Iterator[StepReport]:
    generator = np.random.default_rng(begin)
    norms_NG = np.exp(generator.normal(0.0, 0.3, (end - begin, len(layers))))
    index_G = np.arange(len(layers))
    for step, norms_G in enumerate(norms_NG, begin):
        is_bad = step % 10_000 == 9_999
        known_G = norms_G * math.nan if is_bad else norms_G
        table = GradientTable(
            layers=layers, names=layers, layer_index_P=index_G, norms=known_G, layer_norms=known_G,
            global_norm=math.sqrt(known_G @ known_G), global_norm_pre_clip=None,
            num_nonfinite=np.full(len(layers), int(is_bad)), is_nonfinite_count_exact=True,
            sample=_sample(len(layers)) if step % 50 == 0 else None,
        )  # fmt: skip
        yield StepReport(
            run="benchmark", agent="model", rank=None, optimizer=None, step=step, epoch=0, micro_steps=1,
            time_unix_seconds=0.1 * step, duration_seconds=0.1, phases={"data_wait": 0.01, "forward": 0.09},
            phases_clock="host", loss=math.nan if is_bad else 1.0 / (1 + step / 100) + norms_G[0] / 100,
            loss_source="backward", samples=32, tokens=None, learning_rates=(0.1,), gradients=table,
        )  # fmt: skip


def _sample(size: int) -> GradientSample:
    ones, histogram = np.ones(size), np.zeros((size, NUM_EXPONENT_BINS), dtype=np.int64)
    histogram[:, 60] = 1_000
    return GradientSample(
        is_exact_P=np.zeros(size, bool), num_sampled_P=np.full(size, 1_000), max_abs_P=ones, mean_P=ones * 0,
        zero_ratio_P=ones * 0, subnormal_ratio_P=ones * 0, weight_norms_P=ones, update_ratios_P=ones * 1e-3,
        max_abs_G=ones, zero_ratio_G=ones * 0, weight_norms_G=ones, update_ratios_G=ones * 1e-3,
        histogram_GB=histogram, sum_abs=1.0,
    )  # fmt: skip


if __name__ == "__main__":
    main()
