"""What the tests of a release share: the files of `make dist`, and an environment with nothing but the wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.python_process import ROOT
from tests.release.environments import Environment


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make dist` fills: the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    """The wheel."""
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What `pip install loopscope` makes, without extras. Nobody changes it."""
    return Environment.create(tmp_path_factory.mktemp("base"), wheel)
