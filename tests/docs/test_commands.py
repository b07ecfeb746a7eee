"""Every command of the README and docs/ is run in an empty folder, or by a test or CI step that is named here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.fenced import PAGES, Block, blocks, name_of, spans
from tests.python_process import ROOT, run_python

from loopscope.cli import main

ELSEWHERE = {
    "make demo": ".ci/run: make demo",
    "make test": ".ci/run: make test",
    "make stack": "tests/scripts/test_stack.py: def test_alert_is_printed_and_all_is_stopped",
    "loopscope demo --pathology": "tests/cli/test_demo_pathologies.py: def test_fault_is_shown",
    "make site": "tests/docs/test_site.py: def test_the_site_is_whole",
}
"""Commands that take long, need what a test machine may lack, or would write to the checkout; and who runs them."""
TRAINING = """
import torch
import loopscope

torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
dataset = torch.utils.data.TensorDataset(torch.randn(960, 4), torch.randint(3, (960,)))
loopscope.attach(model, optimizer)
for inputs, targets in torch.utils.data.DataLoader(dataset, batch_size=8):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
"""
"""The reader's own script: 120 healthy steps."""


def lines(block: Block) -> list[str]:
    """Return the lines of a block; one that ends in a backslash goes on."""
    return [line for line in block.text.replace("\\\n", " ").splitlines() if shlex.split(line, comments=True)]


def elsewhere(line: str) -> str | None:
    """Return the entry of ELSEWHERE that a line begins with, if any."""
    words = shlex.split(line.removeprefix(".venv/bin/"), comments=True)
    return next((key for key in ELSEWHERE if words[: len(key.split())] == key.split()), None)


def calls() -> list[str]:
    """Return what the pages call, as `report --text`: from blocks and from code spans, without repetitions."""
    texts = [line for block in blocks("bash", "sh", "console") for line in block.text.splitlines()]
    texts += [span for page in PAGES for span in spans(page)]
    found = (re.search(r"(?:^|[ /])loopscope ([a-z]+)\b(?!=)(.*)", text) for text in texts)
    parts = {(match[1], *re.findall(r" (--[a-z-]+)", match[2].partition("#")[0])) for match in found if match}
    return sorted(map(" ".join, parts))


HERE = [block for block in blocks("bash", "sh") if not all(map(elsewhere, lines(block)))]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The log of the reader's own run."""
    folder = tmp_path_factory.mktemp("log")
    (folder / "train.py").write_text(TRAINING)
    run_python("train.py", cwd=folder, variables={"LOOPSCOPE_PORT": "0", "LOOPSCOPE_JSONL": "run.jsonl"})
    return (folder / "run.jsonl").read_bytes()


@pytest.fixture
def reader(tmp_path: Path, log: bytes) -> Path:
    """A folder with the reader's script, the log under the names that the pages use, and our command on the path."""
    (tmp_path / "bin").mkdir()
    for name, arguments in (("python", ""), ("python3", ""), ("loopscope", "-m loopscope.cli")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "train.py").write_text(TRAINING)
    for name in ("run.jsonl", "other.jsonl", "a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(log)
    return tmp_path


@pytest.mark.parametrize("block", HERE, ids=str)
def test_commands_succeed(block: Block, reader: Path) -> None:
    """A block runs to its end, without what is run elsewhere; a run takes the settings that it exports."""
    script = "\n".join(line for line in lines(block) if not elsewhere(line))
    if "export LOOPSCOPE_" in script and "train.py" not in script:
        script += "\npython train.py"  # takes what was exported
    paths = os.pathsep.join(str(ROOT / root) for root in ("agent", "dashboards", "exporters"))
    variables = {"PATH": f"{reader / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": paths, "LOOPSCOPE_PORT": "0"}
    variables |= {"HOME": str(reader)}  # what a page puts there must not be what the caller has there

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=reader,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.findall(r"Traceback|there is no setting", done.stdout + done.stderr) == []


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_is_run_elsewhere_is(command: str) -> None:
    """Some page shows it, and the test or the step that runs it is there."""
    path, _, text = ELSEWHERE[command].partition(": ")

    assert command in {elsewhere(line) for block in blocks("bash", "sh") for line in lines(block)}
    assert text in (ROOT / path).read_text()


@pytest.mark.parametrize("call", calls())
def test_command_line_takes_it(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command exists, and every option is in its help."""
    command, *options = call.split()

    with pytest.raises(SystemExit, match=r"^0$"):
        main([command, "--help"])

    assert set(options) - set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) == set()


def targets(page: Path) -> set[str]:
    """Return the targets of make that a page names, in blocks and in code spans."""
    own = [block for block in blocks("bash", "sh", "console") if block.page == page]
    shown = [line for block in own for line in block.text.splitlines()]
    return {match[1] for text in (*shown, *spans(page)) if (match := re.match(r"(?:\$ )?make ([a-z-]+)", text))}


@pytest.mark.parametrize("page", [page for page in PAGES if targets(page)], ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    """Every `make TARGET` is a target of the Makefile that `make help` lists."""
    listed = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert targets(page) - listed == set()
