"""What the benchmark found, as a Markdown table for the README, and the machine that it was found on."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["machine", "markdown"]

_TITLES = {
    "resnet": "ResNet-18-like, batch 32 of 32x32",
    "gpt": "GPT-like, sequence 128, batch 4",
    "tiny_tensors": "2,000 tiny tensors, batch 4",
    "tiny_step": "small MLP, tiny step",
    "loopscope": "**loopscope**",
    "loopscope_jsonl": "loopscope with its JSONL log",
    "null": "null (a second bare loop: the noise)",
    "norm_item": "`.norm().item()` per parameter",
    "five_items": "five statistics with `.item()` per parameter",
}


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: machine, versions, load and date."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "num_cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.platform(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "torch_threads": 1,
        "commit": _commit(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def markdown(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [_provenance(results), ""]
    if results["workloads"]:
        lines += [
            "CPU time per step over the bare loop's, median (minimum to maximum) of the pairs. Direct: 1 + (our hooks,",
            "worker and server) / bare step, by the agent's own account. glibc keeps its memory in all contenders (see",
            "processes.py): page faults by chance would be several per cent otherwise.",
            "",
            "| work | bare step | contender | whole step | direct | added per step (direct) | a sample every |",
            "|---|---|---|---|---|---|---|",
        ]
    for workload in results["workloads"]:
        for index, contender in enumerate(workload["contenders"]):
            lines.append(_row(workload["name"], contender, is_first=index == 0))
    if "footprint" in results:
        lines += ["", *_footprint_lines(results["footprint"])]
    return "\n".join(lines) + "\n"


def _provenance(results: dict[str, Any]) -> str:
    where = results["machine"]
    quick = " A quick run: the numbers mean little." if results["is_quick"] else ""
    return (
        f"{where['cpu']}, {where['num_cores']} cores, {where['os']}; Python {where['python']}, torch {where['torch']}, "
        f"{where['torch_threads']} thread; {where['date']}, commit {where['commit']}, load {where['load_average']:.1f} "
        f"at the start. {results['effort']['pairs']} pairs.{quick}"
    )


def _row(workload: str, contender: dict[str, Any], *, is_first: bool) -> str:
    bare = contender["bare_step_seconds"]["median"] * 1e3
    work = f"{_TITLES[workload]} ({contender['num_tensors']} tensors, {contender['num_elements'] / 1e6:.1f} M)"
    direct, direct_added, interval = "", "", ""
    if "direct_ratio" in contender:
        direct = _spread(contender["direct_ratio"], 3)
        direct_added = f" ({contender['direct_added_seconds']['median'] * 1e6:,.0f} us)"
        interval = f"{contender['sample_interval_steps']} steps"
        if contender["intervals_per_block"] < 10:
            interval += f" (block of {contender['intervals_per_block']:.1f})"
        if contender["dropped_share"]:
            interval += f", {contender['dropped_share']:.1%} of the reports dropped"
    added = f"{contender['added_seconds']['median'] * 1e6:,.0f} us{direct_added}"
    cells = [
        work if is_first else "",
        f"{bare:.2f} ms",
        _TITLES[contender["name"]],
        _spread(contender["ratio"], 3),
        direct,
        added,
        interval,
    ]
    return f"| {' | '.join(cells)} |"


def _spread(values: dict[str, float], digits: int) -> str:
    return f"{values['median']:.{digits}f} ({values['min']:.{digits}f} to {values['max']:.{digits}f})"


def _footprint_lines(found: dict[str, Any]) -> list[str]:
    scrape, stall, page, item = found["scrape"], found["stall"], found["page"], found["item_nanoseconds"]
    rows = [
        ("import beyond torch", f"{found['import_seconds']['median'] * 1e3:.0f} ms", "< 50 ms"),
        ("first attach, optimizer made", f"{found['attach_seconds']['median'] * 1e3:.0f} ms", "< 500 ms"),
        (
            "a call of `.item()` that is not counted, beyond the bare call",
            f"{item['not_counted'] - item['bare']:.0f} ns (bare {item['bare']:.0f} ns)",
            "",
        ),
        (
            "one that is counted with its line (on the CPU by the simulation, which looks at the whole stack)",
            f"{(item['counted'] - item['bare']) / 1e3:.1f} us",
            "",
        ),
        *[
            (
                f"memory beyond the bare loop, {_TITLES[memory['workload']]}, {memory['steps']:,} steps",
                f"{memory['added_bytes'] / 1e6:.1f} MB",
                "< 50 MB",
            )
            for memory in found["memory"]
        ],
        (f"a scrape of {scrape['num_series']:,} series, wall", f"{scrape['wall_seconds']['median'] * 1e3:.1f} ms", ""),
        ("CPU of such a scrape every 5 s, share of a core", f"{scrape['core_share']:.2%}", "< 1 %"),
        _stall("while scraped", stall),
        ("the whole history for the live page, wall", f"{page['wall_seconds']['median'] * 1e3:.1f} ms", ""),
        _stall("while the live page loads", found["page_stall"]),
    ]
    return ["| | measured | wanted |", "|---|---|---|", *[f"| {' | '.join(row)} |" for row in rows]]


def _stall(when: str, found: dict[str, Any]) -> tuple[str, str, str]:
    stall, control = found["scrape_seconds"], found["control_seconds"]
    return (
        (
            f"longest added stall of a {found['step_seconds'] * 1e3:.2f} ms loop {when} "
            f"(without: {control['max'] * 1e3:.1f} ms)"
        ),
        f"{stall['max'] * 1e3:.1f} ms (median {stall['median'] * 1e3:.1f} ms)",
        "< 10 ms",
    )


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
