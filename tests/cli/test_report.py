"""`loopscope report`: a page beside the log or where it is wanted, or text; errors say what to do."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders import run_info, step_report
from tests.jsonl_logs import write
from tests.python_process import ROOT, run_python
from tests.report.pages import write_log

from loopscope.cli import main

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from loopscope.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with all that one can have."""
    return write_log(tmp_path, "full")


def test_page_is_written_beside_the_log(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RUN.jsonl becomes RUN.html; what was written is told."""
    assert main(["report", str(log)]) == 0

    page = log.with_suffix(".html")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out.startswith(str(page))


@pytest.mark.parametrize("name", ["run", "run.log", "run.jsonl"])
def test_any_name_of_a_log_has_a_page_of_its_own(tmp_path: Path, name: str) -> None:
    """A log without the usual ending keeps its whole name."""
    write(tmp_path / name, run_info(), step_report())

    main(["report", str(tmp_path / name)])

    (page,) = tmp_path.glob("*.html")
    assert page.name == ("run.html" if name == "run.jsonl" else f"{name}.html")


def test_page_is_written_where_it_is_wanted(log: Path, tmp_path: Path) -> None:
    """-o names the file, and nothing else is written."""
    main(["report", str(log), "-o", str(tmp_path / "other.html")])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["full.jsonl", "other.html"]


def test_text_is_printed_and_nothing_is_written(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--text prints the report."""
    assert main(["report", str(log), "--text"]) == 0

    assert "warning: vanishing_gradient" in capsys.readouterr().out
    assert [path.name for path in log.parent.iterdir()] == ["full.jsonl"]


@pytest.mark.parametrize(("options", "has_rank"), [(["--rank", "1"], True), (["--agent", "model"], True)])
def test_selection_is_passed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], has_rank: bool
) -> None:
    """--run, --agent and --rank choose what is shown."""
    assert main(["report", str(write_log(tmp_path, "ranks")), "--text", *options]) == 0

    text = capsys.readouterr().out
    assert ("rank 1" in text) == has_rank
    assert ("rank 2" in text) == ("--agent" in options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.jsonl"], ["missing.jsonl", "There is no such file"]),
        (["empty.jsonl"], ["empty.jsonl", "It is empty", "attach(jsonl=PATH)"]),
        (["."], ["It is a directory"]),
        (["full.jsonl", "-o", "full.jsonl"], ["not the log itself"]),
        (["full.jsonl", "-o", "no/such/place.html"], ["No such file or directory"]),
        (["full.jsonl", "--text", "-o", "x.html"], ["--text"]),
        (["full.jsonl", "--agent", "critic"], ["Nothing in it is of --agent critic", "agent model"]),
        (["full.jsonl", "--rank", "0", "--text"], ["Nothing in it is of --rank 0"]),
    ],
)
def test_what_cannot_be_done_is_an_error_with_a_remedy(
    log: Path,
    arguments: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit status 2, one line on stderr that names the value and the remedy, and the log as it was."""
    monkeypatch.chdir(log.parent)
    Path("empty.jsonl").touch()
    before = log.read_bytes()

    assert main(["report", *arguments]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert [word for word in words if word not in captured.err] == []
    assert captured.err.count("\n") == 1
    assert log.read_bytes() == before


@pytest.mark.parametrize("options", [[], ["--text"]])
def test_no_torch_is_needed(log: Path, options: list[str]) -> None:
    """A report is made on a machine that has no torch; a comparison likewise."""
    assert run_python("-c", WITHOUT_TORCH, "report", str(log), *options).returncode == 0
    assert run_python("-c", WITHOUT_TORCH, "compare", str(log), str(log)).returncode == 0


@pytest.mark.parametrize(("encoding", "is_ascii"), [("ascii", True), ("utf-8", False)])
def test_output_suits_its_encoding(log: Path, encoding: str, is_ascii: bool) -> None:
    """Where the output has no Unicode nothing beyond ASCII is printed."""
    done = run_python("-m", "loopscope.cli", "report", str(log), "--text", variables={"PYTHONIOENCODING": encoding})

    assert done.stdout.isascii() == is_ascii


@pytest.mark.parametrize("number", [100, 4_500])
def test_progress_is_shown_on_a_terminal_and_cleared(tmp_path: Path, number: int) -> None:
    """Who looks on sees how far it has come; the line is gone at the end. Text is as wide as the terminal."""
    path = tmp_path / "run.jsonl"
    write(path, run_info(), *(step_report(step, gradients=None) for step in range(number)))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "loopscope.cli", "report", str(path)]
    paths = os.pathsep.join([str(ROOT / "agent"), str(ROOT / "exporters")])

    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, stderr=theirs, stdout=subprocess.PIPE, timeout=60, check=True
    )

    os.close(theirs)
    told = os.read(ours, 10_000).decode()
    os.close(ours)
    assert ("4,000 lines" in told) == (number > 4_000)
    assert told.endswith("\r\x1b[K")
    assert b"\x1b" not in done.stdout


def test_reader_that_goes_away_is_no_fault(log: Path) -> None:
    """`loopscope report RUN.jsonl --text | head -1` ends without a traceback."""
    command = f"{sys.executable} -m loopscope.cli report {log} --text | head -1"

    done = subprocess.run(["bash", "-c", command], cwd=ROOT / "agent", capture_output=True, text=True, check=False)

    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("full.jsonl")
