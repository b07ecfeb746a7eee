"""After `pip install loopscope`, without extras, without the repository, warnings being errors: what works."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.python_process import ROOT
from tests.release.environments import Environment

import loopscope
from loopscope_exporters.live.assets import ASSETS

TRAIN = """
import json
import sys
import urllib.request

import loopscope
import torch

torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
answers = {}
with loopscope.attach(model, optimizer, port=0, jsonl="run.jsonl", strict=True) as agent:
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        optimizer.step()
    agent.flush()
    for path in sys.argv[1:]:
        with urllib.request.urlopen(agent.url + path) as answer:
            answers[path] = answer.read().decode()
print(json.dumps(answers))
"""
RENDERED = ROOT / "dashboards" / "rendered"


class Trained(NamedTuple):
    """What a loop served that was attached to, and where it ran."""

    answers: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def trained(base: Environment, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A loop of 20 steps that asks its own server."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "train.py").write_text(TRAIN)
    done = base.run("python", "-W", "error", "train.py", *ASSETS, "/metrics", "/api/live", cwd=folder)
    assert done.stderr == ""
    return Trained(json.loads(done.stdout), folder)


def test_the_package_is_the_one_that_was_installed(base: Environment, tmp_path: Path) -> None:
    """Importing it is silent, and neither imports torch nor sees the repository."""
    script = "import sys, loopscope; print(loopscope.__file__); assert 'torch' not in sys.modules"

    done = base.run("python", "-W", "error", "-c", script, cwd=tmp_path)

    assert (done.stdout, done.stderr) == (f"{base.packages / 'loopscope' / '__init__.py'}\n", "")


def test_requirements_agree(base: Environment) -> None:
    """`pip check` finds nothing missing and nothing of a wrong version."""
    assert base.pip("check") == "No broken requirements found.\n"


def test_command_tells_its_version(base: Environment, tmp_path: Path) -> None:
    """The console script is there."""
    assert base.run("loopscope", "--version", cwd=tmp_path).stdout == f"loopscope {loopscope.__version__}\n"


def test_every_command_has_help(base: Environment, tmp_path: Path) -> None:
    """Also those whose extra is missing, for who wants to know what it would bring."""
    listed = base.run("python", "-W", "error", "-m", "loopscope.cli", "--help", cwd=tmp_path).stdout
    commands = re.findall(r"^    ([a-z]+)(?: |$)", listed, re.MULTILINE)

    assert {"demo", "report", "rules", "dashboards"} <= set(commands)
    for command in commands:
        done = base.run("python", "-W", "error", "-m", "loopscope.cli", command, "--help", cwd=tmp_path)
        assert done.stdout.startswith(f"usage: loopscope {command} ")
        assert done.stderr == ""


@pytest.mark.parametrize("path", ASSETS)
def test_a_loop_serves_the_live_page(base: Environment, trained: Trained, path: str) -> None:
    """Every file of it, as it was installed."""
    page = base.packages / "loopscope_exporters" / "live" / "page"

    assert trained.answers[path] == (page / ASSETS[path]).read_text(encoding="utf-8")


def test_a_loop_serves_its_numbers(trained: Trained) -> None:
    """Prometheus and the live page see the 20 steps."""
    assert 'loopscope_steps_total{agent="model"} 20.0' in trained.answers["/metrics"]
    assert json.loads(trained.answers["/api/live"])["agent"] == "model"


def test_its_log_can_be_reported(base: Environment, trained: Trained) -> None:
    """`loopscope report` makes its page, style sheet included."""
    base.run("python", "-W", "error", "-m", "loopscope.cli", "report", "run.jsonl", cwd=trained.folder)

    (page,) = trained.folder.glob("*.html")
    text = page.read_text(encoding="utf-8")
    assert "<style>" in text
    assert "Linear" in text or "layer" in text


@pytest.mark.parametrize(("command", "suffix"), [("dashboards", ".json"), ("rules", ".yaml")])
def test_dashboards_and_rules_can_be_written(base: Environment, tmp_path: Path, command: str, suffix: str) -> None:
    """Those of the repository: neither takes an extra."""
    base.run("python", "-W", "error", "-m", "loopscope.cli", command, "--out", "out", cwd=tmp_path)

    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        path.name: path.read_text() for path in RENDERED.glob(f"*{suffix}")
    }
