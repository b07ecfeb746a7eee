"""The benchmark runs and writes what it says; what it measures is never asserted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "overhead.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a quick run of one workload."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, str(_SCRIPT), "--quick", "--workload", "tiny_step", "--contender", "loopscope"]
    subprocess.run([*command, "--output", str(folder)], check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def compared(folder: Path) -> dict[str, Any]:
    """The one comparison in them."""
    results = json.loads((folder / "results.json").read_text())
    [workload] = results["workloads"]
    [contender] = workload["contenders"]
    assert (workload["name"], contender["name"]) == ("tiny_step", "loopscope")
    found: dict[str, Any] = contender
    return found


@pytest.mark.parametrize("field", ["ratio", "direct_ratio", "bare_step_seconds"])
def test_spreads_are_ordered_positive_numbers(compared: dict[str, Any], field: str) -> None:
    """Minimum, median and maximum come in this order, and a ratio of CPU times is positive and finite."""
    values = [compared[field][name] for name in ("min", "median", "max")]

    assert values == sorted(values)
    assert all(math.isfinite(value) and value > 0 for value in values)


def test_ratios_are_of_cpu_time_over_whole_blocks(compared: dict[str, Any]) -> None:
    """A pair's ratio is the contender's CPU time a step over the bare loop's; a block has all the steps asked for."""
    [pair] = compared["pairs"]

    assert pair["ratio"] == pytest.approx(pair["step_seconds"] / pair["bare_step_seconds"])
    assert pair["steps"] == compared["block_steps"] > 0


def test_direct_ratio_is_of_our_own_account(compared: dict[str, Any]) -> None:
    """It is 1 + (hooks, worker and server) / bare step."""
    [pair] = compared["pairs"]
    parts = pair["own_account_seconds"]

    assert set(parts) == {"hooks", "worker", "server"}
    assert compared["direct_ratio"]["median"] == pytest.approx(1 + sum(parts.values()) / pair["bare_step_seconds"])


def test_table_names_machine_and_contender(folder: Path) -> None:
    """The Markdown says where and when it was measured, and has a row for what was compared."""
    table = (folder / "results.md").read_text()
    where = json.loads((folder / "results.json").read_text())["machine"]

    assert all(where[name] in table for name in ("python", "torch", "date"))
    assert any(line.startswith("|") and "loopscope" in line for line in table.splitlines())
