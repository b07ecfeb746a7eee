"""`loopscope dashboards`: writes the dashboards; what cannot work is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.python_process import ROOT, run_python

from loopscope.cli import main

WITHOUT = "import sys; sys.modules[{!r}] = None; from loopscope.cli import main; sys.exit(main(sys.argv[1:]))"


def test_files_are_those_that_are_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without settings it writes what dashboards/rendered has, into a folder that it makes, and says what it wrote."""
    out = tmp_path / "new" / "dashboards"

    assert main(["dashboards", "--out", str(out)]) == 0

    written = sorted(out.iterdir())
    assert sorted(capsys.readouterr().out.split()) == [str(path) for path in written]
    assert {path.name: path.read_text() for path in written} == {
        path.name: path.read_text() for path in (ROOT / "dashboards" / "rendered").glob("*.json")
    }


@pytest.mark.parametrize(("version", "schema"), [("11", 39), ("12", 41)])
def test_version_of_grafana_can_be_chosen(tmp_path: Path, version: str, schema: int) -> None:
    """Each gets the schema of its first release."""
    assert main(["dashboards", "--out", str(tmp_path), "--grafana", version]) == 0

    assert {json.loads(path.read_text())["schemaVersion"] for path in tmp_path.iterdir()} == {schema}


@pytest.mark.parametrize("url", ["https://wiki.example.com/runbooks", "https://wiki.example.com/runbooks/"])
def test_runbooks_can_be_elsewhere(tmp_path: Path, url: str) -> None:
    """Links lead there, with one slash between folder and page."""
    assert main(["dashboards", "--out", str(tmp_path), "--docs-url", url]) == 0

    text = (tmp_path / "loopscope-overview.json").read_text()
    assert "https://wiki.example.com/runbooks/loopscopedevicesyncstorm.md" in text
    assert "github.com" not in text


def test_address_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is written."""
    assert main(["dashboards", "--out", str(tmp_path / "out"), "--docs-url", "runbooks"]) == 2

    assert "Begin it with https://." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the way is a message and status 2, no traceback."""
    (tmp_path / "file").write_text("")

    assert main(["dashboards", "--out", str(tmp_path / "file")]) == 2
    assert "a folder that can be written" in capsys.readouterr().err


def test_without_grafanalib_the_packaged_ones_are_written(tmp_path: Path) -> None:
    """Who has installed no extra gets what others are given who change nothing."""
    run_python("-c", WITHOUT.format("grafanalib"), "dashboards", "--out", str(tmp_path / "packaged"))
    run_python("-m", "loopscope.cli", "dashboards", "--out", str(tmp_path / "generated"))

    packaged, generated = (
        {path.name: path.read_text() for path in (tmp_path / folder).iterdir()} for folder in ("packaged", "generated")
    )
    assert packaged == generated


@pytest.mark.parametrize("change", [["--grafana", "11"], ["--docs-url", "https://wiki.example.com/"]])
def test_missing_grafanalib_names_the_extra(tmp_path: Path, change: list[str]) -> None:
    """Who asks for others without it is told which extra to install; nothing is written."""
    done = run_python(
        "-c", WITHOUT.format("grafanalib"), "dashboards", "--out", str(tmp_path / "out"), *change, status=1
    )

    assert done.stderr == (
        "loopscope dashboards needs grafanalib for --grafana 11 and --docs-url: pip install 'loopscope[dashboards]'\n"
    )
    assert not (tmp_path / "out").exists()


def test_needs_no_torch(tmp_path: Path) -> None:
    """Dashboards can be written where nothing is trained."""
    run_python("-c", WITHOUT.format("torch"), "dashboards", "--out", str(tmp_path))

    assert (tmp_path / "loopscope-ranks.json").exists()
