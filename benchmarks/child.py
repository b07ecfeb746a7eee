"""One contender on one workload in a process of its own; runs blocks of steps as the parent asks, in lines of JSON.

python child.py WORKLOAD CONTENDER    then on standard input: {"steps": 100} or {"record_seconds": 20.0}
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

import psutil
import torch
from contenders import CONTENDERS, Monitor

from workloads import WORKLOADS, TrainingLoop

__all__: list[str] = []


def main() -> None:
    """Answer each line of standard input with a line on standard output, until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing that is printed may get between the answers
    torch.set_num_threads(1)
    workload, contender = sys.argv[1:]
    loop = WORKLOADS[workload].make()
    monitor = CONTENDERS[contender].start(loop)
    parameters = loop.parameters
    hello = {
        "url": monitor.url,
        "num_tensors": len(parameters),
        "num_elements": sum(parameter.numel() for parameter in parameters),
    }
    print(json.dumps(hello), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        answer = (
            _run_block(loop, monitor, request["steps"])
            if "steps" in request
            else _record(loop, request["record_seconds"])
        )
        print(json.dumps(answer), file=answers)
    monitor.close()


def _run_block(loop: TrainingLoop, monitor: Monitor, num_steps: int) -> dict[str, Any]:
    """Time a block of steps: CPU of the whole process, what the worker still has to do included."""
    loop.pause_over()  # the other side's turn was no part of a step: loopscope's budget is a share of step time
    monitor.settle()
    spent_before, dropped_before = monitor.spent_seconds(), monitor.num_dropped()
    faults_before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    begin = time.process_time(), time.thread_time(), time.perf_counter()
    loop.run(num_steps)
    monitor.settle()
    cpu_seconds, thread_seconds, wall_seconds = (
        now - then
        for now, then in zip((time.process_time(), time.thread_time(), time.perf_counter()), begin, strict=True)
    )
    num_page_faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults_before
    spent = monitor.spent_seconds()
    return {
        "steps": num_steps,
        "cpu_seconds": cpu_seconds,
        "wall_seconds": wall_seconds,
        "other_threads_cpu_seconds": max(cpu_seconds - thread_seconds, 0.0),
        "spent_seconds": {part: value - spent_before[part] for part, value in spent.items()},
        "total_spent_seconds": spent,
        "dropped_reports": monitor.num_dropped() - dropped_before,
        "page_faults": num_page_faults,
        "rss_bytes": psutil.Process().memory_info().rss,
        "sample_interval_steps": monitor.sample_interval(),
    }


def _record(loop: TrainingLoop, seconds: float) -> dict[str, Any]:
    """Note when each step began, by the clock that all processes share, and how long it took."""
    begins: list[int] = []
    end_ns = time.monotonic_ns() + int(seconds * 1e9)
    while not begins or begins[-1] < end_ns:
        begins.append(time.monotonic_ns())
        loop.step()
    return {"begins_ns": begins}


if __name__ == "__main__":
    main()
