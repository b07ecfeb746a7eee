"""`loopscope compare`: the exit status of diff, text for people and JSON for tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.builders import run_info, step_report
from tests.jsonl_logs import write

from loopscope.cli import main


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Logs of a run, of the same again, and of one whose loss is 0.1 % apart from step 2 on."""
    for name, factor in (("a", 1.0), ("same", 1.0), ("other", 1.001)):
        losses = [2.5 * (factor if step >= 2 else 1.0) for step in range(4)]
        write(tmp_path / f"{name}.jsonl", run_info(), *(step_report(s, loss=loss) for s, loss in enumerate(losses)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["a.jsonl", "a.jsonl"], 0),
        (["a.jsonl", "same.jsonl"], 0),
        (["a.jsonl", "other.jsonl"], 1),
        (["a.jsonl", "other.jsonl", "--rtol", "0.01"], 0),
        (["a.jsonl", "other.jsonl", "--rtol", "1e-4"], 1),
        (["a.jsonl", "missing.jsonl"], 2),
        (["a.jsonl", "same.jsonl", "--agent", "critic"], 2),
    ],
)
@pytest.mark.parametrize("form", [[], ["--text"], ["--json"]])
def test_exit_status_is_that_of_diff(arguments: list[str], status: int, form: list[str]) -> None:
    """0 where both trained the same, 1 where not, 2 where that cannot be told."""
    assert main(["compare", *arguments, *form]) == status


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("rtol", ["-1", "1", "nan", "much"])
def test_tolerance_that_makes_no_sense_is_refused(rtol: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error is that of argparse, with status 2."""
    with pytest.raises(SystemExit) as caught:
        main(["compare", "a.jsonl", "same.jsonl", f"--rtol={rtol}"])

    assert caught.value.code == 2
    assert "--rtol" in capsys.readouterr().err


@pytest.mark.usefixtures("logs")
def test_text_says_where_they_part(capsys: pytest.CaptureFixture[str]) -> None:
    """By default people read it."""
    main(["compare", "a.jsonl", "other.jsonl"])

    assert "Training differs from step 2 on: first the loss." in capsys.readouterr().out


@pytest.mark.usefixtures("logs")
def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json tools do, and nothing else is on stdout."""
    main(["compare", "a.jsonl", "other.jsonl", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert found["optimizers"][0]["steps"]["gaps"][0]["step"] == 2
