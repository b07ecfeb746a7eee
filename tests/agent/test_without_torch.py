"""The worker's side runs on a machine without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = "import sys; sys.modules['torch'] = None; "  # every import of it raises ModuleNotFoundError


def _import(module: str) -> subprocess.CompletedProcess[str]:
    paths = f"sys.path[:0] = {[str(ROOT / root) for root in ('agent', 'dashboards', 'exporters')]!r}; "
    command = [sys.executable, "-c", f"{BLOCK}{paths}import {module}"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "module",
    [
        "loopscope",
        "loopscope.assembly",
        "loopscope.bus",
        "loopscope.catalog",
        "loopscope.cli",
        "loopscope.detectors.nonfinite",
        "loopscope.epochs",
        "loopscope.pipeline",
        "loopscope_dashboards.render",
        "loopscope_dashboards.rules",
        "loopscope_exporters.jsonl",
        "loopscope_exporters.live",
        "loopscope_exporters.log",
        "loopscope_exporters.memory",
        "loopscope_exporters.prometheus",
    ],
)
def test_module_imports_with_torch_blocked(module):
    """Detectors, pipeline and exporters need no torch."""
    done = _import(module)

    assert done.returncode == 0, done.stderr


def test_the_block_works():
    """With torch blocked the training side cannot be imported: the law above is no empty one."""
    done = _import("loopscope.agent")

    assert done.returncode != 0
    assert "torch" in done.stderr
