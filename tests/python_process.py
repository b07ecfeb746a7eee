"""Python processes that see this checkout's packages, installed or not; loopscope is strict in them as in the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ROOT", "interrupt", "run_python", "start_python"]

ROOT = Path(__file__).parents[1]


def run_python(
    *arguments: str, cwd: Path = ROOT, status: int = 0, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end and return what was printed; AssertionError with it where it ended with another status."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=_environment() | dict(variables or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


@contextmanager
def start_python(*arguments: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """Start a process whose `stdout` (with stderr in it) can be read line by line; it is dead at the end."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: subprocess.Popen[str]) -> None:
    """Do what Ctrl-C does."""
    process.send_signal(signal.SIGINT)


def _environment() -> dict[str, str]:
    paths = [*(str(ROOT / root) for root in ("agent", "dashboards", "exporters")), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
