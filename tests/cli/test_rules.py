"""`loopscope rules`: writes the rule files; what cannot work is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.python_process import ROOT, run_python

from loopscope.cli import main


def test_files_are_those_that_are_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without settings it writes what dashboards/rendered has, into a folder that it makes, and says what it wrote."""
    out = tmp_path / "new" / "rules"

    assert main(["rules", "--out", str(out)]) == 0

    written = sorted(out.iterdir())
    assert capsys.readouterr().out.split() == [
        str(out / name) for name in ("rules.yaml", "prometheusrule.yaml", "alertmanager.yaml")
    ]
    assert {path.name: path.read_text() for path in written} == {
        path.name: (ROOT / "dashboards" / "rendered" / path.name).read_text() for path in written
    }


def test_settings_change_them(tmp_path: Path) -> None:
    """A change of a setting is in the rules."""
    assert main(["rules", "--out", str(tmp_path), "--set", "stalled_seconds=3600", "--set", "stalled_steps=7"]) == 0

    text = (tmp_path / "rules.yaml").read_text()
    assert "> 3600\n" in text
    assert "< 7 * " in text


def test_wrong_settings_are_told_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that does not exist ends with status 2, and the nearest name."""
    assert main(["rules", "--out", str(tmp_path / "out"), "--set", "stall_seconds=3600"]) == 2

    assert "Did you mean 'stalled_seconds'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the way is a message and status 2, no traceback."""
    (tmp_path / "file").write_text("")

    assert main(["rules", "--out", str(tmp_path / "file")]) == 2
    assert "a folder that can be written" in capsys.readouterr().err


def test_needs_no_torch(tmp_path: Path) -> None:
    """Rules can be written where nothing is trained."""
    without = "import sys; sys.modules['torch'] = None; from loopscope.cli import main; sys.exit(main(sys.argv[1:]))"

    run_python("-c", without, "rules", "--out", str(tmp_path))

    assert (tmp_path / "prometheusrule.yaml").exists()
