"""The demo: it trains, shows every layer of every epoch, serves while it runs, leaves a log, and ends as it should."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.python_process import interrupt, run_python, start_python
from tests.web import request

import loopscope
from loopscope.cli import demo, main
from loopscope_exporters import jsonl

DEMO = ("-W", "error", "-m", "loopscope.cli", "demo", "--port", "0")
LAYERS = ["conv1", "conv2", "conv3", "hidden", "classifier"]
NUM_EPOCHS = 3


@dataclass(frozen=True)
class Session:
    """A demo with --keep that was watched from its first line to Ctrl-C."""

    text: str
    status: int
    page: str
    health_while_training: str
    metrics: str
    state: str
    log: Path

    def table_below(self, title: str) -> dict[str, list[str]]:
        """Return the cells of the first table below `title`, by the first of each row."""
        rest = self.text.partition(title)[2].partition("\n\n")[2]
        lines = rest.splitlines()[2:]
        rows = [line.split() for line in lines[: lines.index("") if "" in lines else None]]
        return {row[0]: row[1:] for row in rows if len(row) > 1}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Run the demo once for all tests that only look at it."""
    log = tmp_path_factory.mktemp("demo") / "log.jsonl"
    text, page, health, metrics, state = "", "", "", "", ""
    with start_python(*DEMO, "--epochs", str(NUM_EPOCHS), "--jsonl", str(log), "--keep") as process:
        for line in _lines(process.stdout):
            text += line
            if found := re.search(r"^  page +(http://\S+/)$", line):
                page = request(found[1]).text
            if found := re.search(r"health +(http://\S+)", line):
                health = request(found[1]).text
            if found := re.search(r"Serving (http://\S+)/metrics", line):
                metrics, state = request(f"{found[1]}/metrics").text, request(f"{found[1]}/api/state").text
                interrupt(process)
        return Session(text, process.wait(30), page, health, metrics, state, log)


def _lines(stream: Iterator[str] | None) -> Iterator[str]:
    assert stream is not None
    yield from stream


def test_learns(session: Session) -> None:
    """It is real training: more than 95 % of the validation images are named right."""
    accuracies = re.findall(r"validation accuracy +([\d.]+)%", session.text)

    assert len(accuracies) == NUM_EPOCHS
    assert float(accuracies[-1]) > 95


def test_shows_progress_of_every_epoch(session: Session) -> None:
    """An epoch's line has its loss, speed and gradient norm."""
    pattern = r"^epoch +(\d) of 3 +loss [\d.]+ .* [\d,]+ samples/s +gradient norm [\d.]+$"
    lines = re.findall(pattern, session.text, re.MULTILINE)

    assert lines == ["0", "1", "2"]


def test_table_has_every_layer_of_every_epoch(session: Session) -> None:
    """A column a layer, a row an epoch, every norm above zero."""
    table = session.table_below("mean over the epoch's steps")

    assert re.search(r"^epoch +steps +loss +global +" + " +".join(LAYERS) + " +non-finite$", session.text, re.MULTILINE)
    assert sorted(table) == ["0", "1", "2"]
    assert min(float(norm) for row in table.values() for norm in row[3:8]) > 0


def test_table_has_every_layer_of_the_run(session: Session) -> None:
    """A row a layer: norms in order, no non-finite step, a share of zeros."""
    table = session.table_below("over the whole run:")

    assert list(table) == LAYERS
    assert all(float(smallest) < float(mean) < float(largest) for mean, smallest, largest, *_ in table.values())
    assert {row[4] for row in table.values()} == {"0"}


def test_fits_a_terminal(session: Session) -> None:
    """A table is read in 100 columns."""
    tables = session.text.partition("Training is done.")[2].partition("Every step,")[0]

    assert max(map(len, tables.splitlines())) <= 100


def test_log_holds_every_step(session: Session) -> None:
    """45 steps an epoch, numbered without a gap, and the epochs' reports; the command to read it is named."""
    entries = list(jsonl.read(session.log))

    assert [entry["step"] for entry in entries if entry["type"] == "step"] == list(range(45 * NUM_EPOCHS))
    assert [entry["epoch"] for entry in entries if entry["type"] == "epoch"] == list(range(NUM_EPOCHS))
    assert f"-m json.tool --json-lines {session.log}" in session.text


def test_table_agrees_with_the_log(session: Session) -> None:
    """A layer's norm of an epoch is the mean of its norms at the epoch's steps, as the log has them."""
    norms: dict[str, list[list[float]]] = defaultdict(list)
    for entry in jsonl.read(session.log):
        if entry["type"] == "step":
            assert entry["gradients"]["layers"] == LAYERS
            norms[str(entry["epoch"])].append(entry["gradients"]["layer_norms"])

    means = {epoch: [sum(column) / len(column) for column in zip(*rows, strict=True)] for epoch, rows in norms.items()}
    table = session.table_below("mean over the epoch's steps")

    assert {epoch: [float(cell) for cell in row[3:8]] for epoch, row in table.items()} == {
        epoch: pytest.approx(row, rel=1e-3) for epoch, row in means.items()
    }


def test_addresses_answer_while_training(session: Session) -> None:
    """The live page is the first of the addresses, and they answer at once."""
    assert re.findall(r"^  (\w+) +http://", session.text, re.MULTILINE) == ["page", "metrics", "health", "state"]
    assert "<html" in session.page
    assert session.health_while_training


def test_healthy_run_has_nothing_to_act_on(session: Session) -> None:
    """No event above `info`: neither in the log nor printed."""
    events = [entry for entry in jsonl.read(session.log) if entry["type"] == "event"]
    of_the_machine = {"step_time_outlier"}  # it may well have held up a step

    assert {event["severity"] for event in events} == {"info"}
    assert [event["kind"] for event in events if event["kind"] not in of_the_machine] == ["device_sync"]
    assert re.findall(r"^ *(?:warning|critical): ", session.text, re.MULTILINE) == []


def test_metrics_hold_the_run(session: Session) -> None:
    """/metrics has the steps and a norm for each layer."""
    assert f'loopscope_steps_total{{agent="model"}} {45 * NUM_EPOCHS}.0' in session.metrics
    layers = re.findall(r'^loopscope_gradient_norm\{agent="model",layer="(\w+)"\}', session.metrics, re.MULTILINE)
    assert layers == LAYERS


def test_state_holds_the_latest_step(session: Session) -> None:
    """/api/state has the latest step."""
    assert json.loads(session.state)["agents"]["model"]["step"]["step"] == 45 * NUM_EPOCHS - 1


def test_ctrl_c_ends_a_kept_demo(session: Session) -> None:
    """After training Ctrl-C is how it ends: status 0, no traceback."""
    assert session.status == 0
    assert "Traceback" not in session.text


def test_ctrl_c_while_training_shows_what_is_there(tmp_path: Path) -> None:
    """Status 130, no traceback; the epoch under way is in the table and in the log."""
    log = tmp_path / "log.jsonl"
    with start_python(*DEMO, "--jsonl", str(log)) as process:
        text = ""
        for line in _lines(process.stdout):
            text += line
            if line.startswith("epoch  0 of"):
                interrupt(process)
        status = process.wait(30)

    assert status == 130
    assert "Traceback" not in text
    assert "Interrupted." in text
    assert re.search(r"^classifier +[\d.]+", text, re.MULTILINE)
    assert 0 in [entry["epoch"] for entry in jsonl.read(log) if entry["type"] == "epoch"]


def test_every_run_has_a_log_of_its_own(tmp_path: Path) -> None:
    """Two demos in one directory at the same time disturb neither each other's port nor log."""
    with start_python(*DEMO, "--epochs", "1", cwd=tmp_path) as other:
        run_python(*DEMO, "--epochs", "1", cwd=tmp_path)
        assert other.wait(60) == 0

    logs = list((tmp_path / "runs").glob("demo-*.jsonl"))
    assert [sum(entry["type"] == "step" for entry in jsonl.read(log)) for log in logs] == [45, 45]


def test_missing_scikit_learn_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without scikit-learn the demo says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.delitem(sys.modules, "loopscope.cli.demo.digits", raising=False)
    monkeypatch.delattr(demo, "digits", raising=False)

    assert main(["demo"]) == 1
    assert "pip install 'loopscope[demo]'" in capsys.readouterr().err


def test_wrong_port_is_said_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What cannot be used ends with status 2 and the setting's message, without a traceback."""
    assert main(["demo", "--port", "99999", "--jsonl", str(tmp_path / "log.jsonl")]) == 2
    assert "port=99999 cannot be used" in capsys.readouterr().err


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """--help names every command."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])

    assert re.search(r"^ +demo +train", capsys.readouterr().out, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version is the package's."""
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])

    assert capsys.readouterr().out == f"loopscope {loopscope.__version__}\n"


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["demo", "--epochs", "0"], ["demo", "--nonsense"]])
def test_wrong_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No command, an unknown one, a number of epochs that is none: usage and status 2."""
    with pytest.raises(SystemExit, match="2"):
        main(argv)

    assert "usage: loopscope" in capsys.readouterr().err


def test_help_does_not_wait_for_torch() -> None:
    """The command line is there before torch is: only a command that trains imports it."""
    code = "import sys, loopscope.cli; print('torch' in sys.modules, 'sklearn' in sys.modules)"

    assert run_python("-c", code).stdout == "False False\n"
