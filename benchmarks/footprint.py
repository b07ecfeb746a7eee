"""What loopscope costs beside steps: import, attach, memory, scrapes, and the stalls that scrapes add to a loop."""

from __future__ import annotations

import bisect
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comparison import spread
from processes import Child, clean_environment, scrape

__all__ = ["measure"]

_IMPORT = """
import time, torch
begin = time.perf_counter()
import loopscope
print(time.perf_counter() - begin)
"""
_ATTACH = """
import time, torch, loopscope
from workloads import WORKLOADS
loop = WORKLOADS["resnet"].make()
begin = time.perf_counter()
agent = loopscope.attach(loop.model, loop.optimizer, port=0)
print(time.perf_counter() - begin)
agent.detach()
"""
_ITEM = """
import json, statistics, sys, time, torch
from loopscope.guard import Guard
from loopscope.hooks import HookSet
from loopscope.probes.syncs.ledger import LEDGER
from loopscope.probes.syncs.scalars import replace_scalars
tensor, hooks, calls = torch.zeros(()), HookSet(), 2_000
def nanoseconds():
    begin = time.perf_counter_ns()
    for _ in range(calls):
        tensor.item()
    return (time.perf_counter_ns() - begin) / calls
states = {"bare": [], "not_counted": [], "counted": []}
for _ in range(int(sys.argv[1])):
    states["bare"].append(nanoseconds())
    replace_scalars(hooks)
    states["not_counted"].append(nanoseconds())
    leave = LEDGER.listen(frozenset({"cpu"}), Guard().at("benchmark"))
    states["counted"].append(nanoseconds())
    leave()
    hooks.remove()
print(json.dumps({state: statistics.median(times) for state, times in states.items()}))
"""
"""A call of `.item()` on the CPU, where it waits for nothing: what is beyond it is ours."""
_MANY_SERIES = "loopscope_many_series"
_SCRAPE_SECONDS = 5.0
_PAGE = "/api/live"
"""What the live page asks for first: the whole history; later it asks for what is new, which is less."""
_MARGIN_NS = 5_000_000
"""A scrape's window goes on for this long: an answering thread may hold the interpreter after the last byte."""


def measure(say: Callable[[str], None], *, is_quick: bool) -> dict[str, Any]:
    """Measure everything; about two minutes, or some seconds each when quick."""
    times = 1 if is_quick else 5
    found: dict[str, Any] = {"import_seconds": _timed(_IMPORT, times), "attach_seconds": _timed(_ATTACH, times)}
    say(f"import {found['import_seconds']['median']:.3f} s, attach {found['attach_seconds']['median']:.3f} s")
    found["item_nanoseconds"] = json.loads(_run(_ITEM, str(5 if is_quick else 51)))
    say("a call of .item(): " + ", ".join(f"{state} {ns:.0f} ns" for state, ns in found["item_nanoseconds"].items()))
    plans = [("tiny_step", 1_000, 1)] if is_quick else [("tiny_step", 1_000, 3), ("tiny_tensors", 1_000, 1)]
    found["memory"] = [_memory(*plan) for plan in plans]
    for memory in found["memory"]:
        say(f"memory, {memory['workload']}: {memory['added_bytes'] / 1e6:+.1f} MB after {memory['steps']} steps")
    with Child("tiny_step", _MANY_SERIES) as child:
        child.run(1_000)
        found["scrape"] = _scrapes(child, 5 if is_quick else 20)
        say(
            f"scrape of {found['scrape']['num_series']} series: "
            f"{found['scrape']['wall_seconds']['median'] * 1e3:.1f} ms"
        )
        found["stall"] = _stalls(child, 1 if is_quick else 6)
        say(f"longest added stall while scraped: {found['stall']['scrape_seconds']['max'] * 1e3:.1f} ms")
        found["page"] = _scrapes(child, 5 if is_quick else 20, _PAGE)
        found["page_stall"] = _stalls(child, 1 if is_quick else 6, _PAGE)
        say(f"longest added stall by the live page: {found['page_stall']['scrape_seconds']['max'] * 1e3:.1f} ms")
    return found


def _timed(code: str, times: int) -> dict[str, float]:
    """Run a script in fresh processes and return the spread of the seconds that it prints; the first warms up."""
    return spread([float(_run(code)) for _ in range(times + 1)][1:])


def _run(code: str, *arguments: str) -> str:
    """Run a script in a fresh process and return what it prints."""
    environment = clean_environment()
    environment["PYTHONPATH"] += f":{Path(__file__).resolve().parent}"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def _memory(workload: str, num_steps: int, times: int) -> dict[str, Any]:
    """Compare the resident memory of two processes after as many steps, with loopscope and bare."""
    added: list[float] = []
    for _ in range(times):
        resident: list[int] = []
        for contender in ("loopscope", "bare"):
            with Child(workload, contender, keeps_memory=False) as child:
                resident.append(child.run(num_steps)["rss_bytes"])
        added.append(resident[0] - resident[1])
    return {"workload": workload, "steps": num_steps, "added_bytes": statistics.median(added), "all_bytes": added}


def _scrapes(child: Child, times: int, path: str = "/metrics") -> dict[str, Any]:
    """Time scrapes of an idle process and what they take of its CPU, gzip not asked for."""
    url = child.url
    assert url is not None
    body = scrape(url, path).decode()
    before = child.run(1)["total_spent_seconds"]["server"]
    seconds: list[float] = []
    for _ in range(times):
        begin = time.perf_counter()
        scrape(url, path)
        seconds.append(time.perf_counter() - begin)
    cpu_seconds = (child.run(1)["total_spent_seconds"]["server"] - before) / times
    return {
        "num_series": sum(not line.startswith("#") for line in body.splitlines()),
        "num_bytes": len(body),
        "wall_seconds": spread(seconds),
        "cpu_seconds": cpu_seconds,
        "core_share": cpu_seconds / _SCRAPE_SECONDS,
    }


def _stalls(child: Child, times: int, path: str = "/metrics") -> dict[str, Any]:
    """Scrape a running loop every five seconds; return the longest step around each scrape, less the median step.

    `control` is the same for windows of equal length half-way between the scrapes: what the machine adds by itself.
    """
    url = child.url
    assert url is not None
    child.start_recording((times + 1) * _SCRAPE_SECONDS)  # the last answer is within it, however long it takes
    windows: list[tuple[int, int]] = []
    begin_seconds = time.monotonic()
    for number in range(1, times + 1):
        time.sleep(max(begin_seconds + number * _SCRAPE_SECONDS - time.monotonic(), 0.0))
        begin_ns = time.monotonic_ns()
        scrape(url, path)
        windows.append((begin_ns, time.monotonic_ns() + _MARGIN_NS))
    begins_ns = child.finish_recording()["begins_ns"]
    half_ns = int(_SCRAPE_SECONDS / 2 * 1e9)
    median_ns = statistics.median(later - begin for begin, later in itertools.pairwise(begins_ns))
    return {
        "step_seconds": median_ns / 1e9,
        "scrape_seconds": spread([_longest(begins_ns, *window) - median_ns / 1e9 for window in windows]),
        "control_seconds": spread(
            [_longest(begins_ns, begin - half_ns, end - half_ns) - median_ns / 1e9 for begin, end in windows]
        ),
    }


def _longest(begins_ns: list[int], begin_ns: int, end_ns: int) -> float:
    """Return the seconds of the longest step that overlaps a window."""
    first = max(bisect.bisect_right(begins_ns, begin_ns) - 1, 0)
    last = min(bisect.bisect_left(begins_ns, end_ns), len(begins_ns) - 1)
    return max(begins_ns[i + 1] - begins_ns[i] for i in range(first, max(last, first + 1))) / 1e9
