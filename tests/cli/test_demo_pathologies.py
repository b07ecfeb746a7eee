"""`loopscope demo --pathology NAME`: each plants one fault, loopscope reports it where it is, and the fix cures it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.loops import watch
from tests.python_process import interrupt, start_python
from torch.utils.data import DataLoader, Subset

from loopscope.cli import main
from loopscope.cli.demo import digits, pathologies
from loopscope.cli.demo.pathologies import PATHOLOGIES, Pathology
from loopscope.cli.demo.training import Training
from loopscope_exporters import jsonl

FOLDER = Path(pathologies.__file__).parent
NUM_STEPS = 18
"""Of each of the two passes in a short run: beyond the 30 after which what lasts is reported."""


@dataclass(frozen=True)
class Expected:
    """What has to be reported; `line` is a text in the source line that the event names, None for no line."""

    kind: str
    severity: str
    layer: str | None = None
    line: str | None = None
    num_epochs: int = 1


EXPECTED = {
    "nan": Expected("nonfinite_loss", "critical", layer="conv1", num_epochs=2),
    "exploding": Expected("exploding_gradient", "warning", layer="conv1"),
    "vanishing": Expected("vanishing_gradient", "warning", layer="conv1"),
    "sync": Expected("device_sync", "warning", line="# planted"),
    "recompile": Expected("recompilation", "warning", line="def forward"),
    "inplace": Expected("inplace_conflict", "critical", line="# planted"),
    "checkpoint-corruption": Expected("inplace_corruption", "critical", line="# planted"),
    "dead-layer": Expected("dead_layer", "warning", layer="conv1"),
}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def source_file(name: str) -> Path:
    """Return the file that the fault is planted in."""
    return FOLDER / f"{name.replace('-', '_')}.py"


def site_of(name: str, text: str) -> str:
    """Return the only line of the fault's file with this text, as loopscope names lines seen from elsewhere."""
    lines = source_file(name).read_text().splitlines()
    (number,) = [number for number, line in enumerate(lines, start=1) if text in line]
    return f"{source_file(name)}:{number}"


def run_demo(tmp_path: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the command in this process; return its status and the logged events that a person should act on."""
    log = tmp_path / "log.jsonl"
    status = main(["demo", "--port", "0", "--jsonl", str(log), *arguments])
    entries = [entry for entry in jsonl.read(log) if entry["type"] == "event"] if log.exists() else []
    return status, [entry for entry in entries if entry["severity"] != "info"]


def test_all_are_expected() -> None:
    """Every pathology has its row above, and its own file."""
    assert list(PATHOLOGIES) == list(EXPECTED)
    assert {source_file(name).name for name in PATHOLOGIES} | {"__init__.py"} == {
        path.name for path in FOLDER.glob("*.py")
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_fault_is_shown_with_its_line_and_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 0; the event is a first cause, in the log and on the screen, and the planted line is put right."""
    expected = EXPECTED[name]
    monkeypatch.chdir(tmp_path)

    status, events = run_demo(tmp_path, "--pathology", name, "--epochs", str(expected.num_epochs))
    text = capsys.readouterr().out

    event = events[0]
    site = None if expected.line is None else site_of(name, expected.line)
    assert status == 0
    assert (event["kind"], event["severity"], event["first_cause"]) == (expected.kind, expected.severity, True)
    assert (event["layer"], event["site"]) == (expected.layer, site)
    assert text.startswith(f"Pathology {name}: ")
    shown, _, fix = text.partition("What loopscope says:")[2].partition("The fix:")
    where = f" in layer {expected.layer}" if expected.layer else ""
    assert shown.strip().startswith(f"{expected.severity}: {expected.kind} at step {event['step']}{where}\n")
    assert f"{event['message']} Remedy: {event['remedy']}" in " ".join(shown.split())
    assert site is None or f"    {site}\n    > " in shown
    assert f"  {site_of(name, '# planted')}\n  - " in fix


@pytest.mark.parametrize("name", EXPECTED)
def test_fix_cures_what_was_planted(name: str, tmp_path: Path) -> None:
    """In a short run the planted line brings its event, and with the line that is shown as the fix nothing comes."""
    assert EXPECTED[name].kind in short_run(PATHOLOGIES[name].training(), PATHOLOGIES[name].raises)
    torch._dynamo.reset()
    assert short_run(fixed(PATHOLOGIES[name], tmp_path), ()) == set()


def fixed(pathology: Pathology, folder: Path) -> Training:
    """Return the run of a copy of the pathology's file in which the planted line is replaced."""
    line = f"{pathology.planted_line().text}  # planted"
    source = source_file(pathology.name).read_text()
    assert source.count(line) == 1
    path = folder / "fixed.py"
    path.write_text(source.replace(line, pathology.fix))
    spec = importlib.util.spec_from_file_location(f"{pathologies.__name__}.fixed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)["torch"] = torch  # the fix may need it where the fault did not
    spec.loader.exec_module(module)
    training: Training = module.TRAINING
    return training


def short_run(training: Training, raises: tuple[type[Exception], ...]) -> set[str]:
    """Train twice for a few small steps; return the kinds of event that a person should act on."""
    torch.manual_seed(0)
    full, _ = digits.loaders(0)
    loader = DataLoader(Subset(full.dataset, range(8 * NUM_STEPS)), 8)
    model = training.network()
    optimizer = training.optimizer(model)
    with watch(model, optimizer, sync_device="cpu", **training.settings) as watched:
        try:
            for epoch in range(2):
                training.train_epoch(model, optimizer, loader, epoch)
        except raises:
            pass
        watched.agent.flush()
        return {event.kind for event in watched.agent.events if event.severity != "info"}


def test_fault_that_is_not_seen_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the run ends before the fault begins, the status is 1, and no fix is shown."""
    status, events = run_demo(tmp_path, "--pathology", "nan", "--epochs", "1")
    text = capsys.readouterr().out

    assert (status, events) == (1, [])
    assert "What loopscope says: nothing." in text
    assert "It did not report nonfinite_loss, which was planted." in text
    assert "The fix:" not in text


def test_nothing_is_seen_where_loopscope_is_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exception is PyTorch's alone, and the status 1."""
    monkeypatch.setenv("LOOPSCOPE_DISABLED", "1")

    status, _ = run_demo(tmp_path, "--pathology", "inplace")
    text = capsys.readouterr().out

    assert status == 1
    assert "modified by an inplace" in text
    assert "It did not report inplace_conflict" in text


def test_exception_is_shown_with_the_note_of_loopscope(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PyTorch's text, what loopscope has added to it, and then the end of every run."""
    run_demo(tmp_path, "--pathology", "inplace")
    text = " ".join(capsys.readouterr().out.split())

    failure = text.partition("Training ended with an exception:")[2].partition("What loopscope says:")[0]
    assert "RuntimeError: one of the variables needed for gradient computation" in failure
    assert f"write `{PATHOLOGIES['inplace'].fix}`." in failure
    assert text.endswith("log.jsonl | less")


def test_ctrl_c_while_training_shows_what_is_there(tmp_path: Path) -> None:
    """Status 130, no traceback, and the verdict on what was seen until then."""
    arguments = ("demo", "--port", "0", "--jsonl", str(tmp_path / "log.jsonl"), "--pathology", "sync")
    with start_python("-W", "error", "-m", "loopscope.cli", *arguments) as process:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if line.startswith("epoch  0 of"):
                interrupt(process)
        status = process.wait(30)

    assert status == 130
    assert "Traceback" not in text
    assert re.search(r"^Interrupted\.\n\nWhat loopscope says:\n\n  warning: device_sync at step 1$", text, re.MULTILINE)


def test_unknown_name_is_answered_with_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and every name there is."""
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--pathology", "nonsense"])

    error = capsys.readouterr().err
    assert "invalid choice: 'nonsense'" in error
    assert [name for name in PATHOLOGIES if name not in error] == []


def test_help_says_what_each_plants(capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, that fits a terminal of 100 columns."""
    with pytest.raises(SystemExit, match="0"):
        main(["demo", "--help"])

    lines = capsys.readouterr().out.partition("pathologies:\n")[2].splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [[each.name, each.plants] for each in PATHOLOGIES.values()]
    assert max(map(len, lines)) <= 100
