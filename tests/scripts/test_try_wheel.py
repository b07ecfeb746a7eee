"""`scripts/try-wheel`: without a wheel it says how to make one. With one it installs torch: that is for a release."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.python_process import ROOT


def test_a_missing_wheel_is_told(tmp_path: Path) -> None:
    """Nothing is installed."""
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "try-wheel", tmp_path / "scripts")

    done = subprocess.run([script], capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "try-wheel: no wheel in dist/: run 'make dist' first.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["scripts"]
