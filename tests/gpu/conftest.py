"""What `make gpu-check` prints in the end: one table of what was checked and measured on this device."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

TABLE = Path(__file__).parents[2] / "build" / "gpu-check.md"
_rows: list[tuple[str, str, str]] = []


@pytest.fixture
def row() -> Callable[[str, str, str], None]:
    """Add a row to the table: what, what was found, what was wanted."""
    return lambda what, found, wanted: _rows.append((what, found, wanted))


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table and keep it in build/gpu-check.md."""
    if not torch.cuda.is_available():
        return
    outcomes = {kind: len(terminalreporter.stats.get(kind, ())) for kind in ("passed", "failed", "error", "skipped")}
    device = torch.cuda.get_device_name()
    lines = [
        f"{device}, torch {torch.__version__}, Python {platform.python_version()}; tests: "
        + ", ".join(f"{count} {kind}" for kind, count in outcomes.items() if count),
        "",
        "| check | found | wanted |",
        "|---|---|---|",
        *(f"| {' | '.join(cells)} |" for cells in _rows),
    ]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join(lines) + "\n")
    terminalreporter.write_sep("=", "gpu-check")
    terminalreporter.write_line("\n".join(lines))
