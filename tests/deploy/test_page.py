"""docs/deploy.md: the blocks that run anywhere do, and the others name what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.python_process import ROOT

PAGE = (ROOT / "docs" / "deploy.md").read_text()
BIN = Path(sys.executable).parent
TRAINING = """
import json, os, pathlib
import torch
import loopscope

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
with loopscope.attach(model, optimizer, port=0) as agent:
    model(torch.ones(2, 4)).mean().backward()
    optimizer.step()
    agent.flush()
    (path,) = pathlib.Path(os.environ["LOOPSCOPE_DISCOVERY_DIR"]).iterdir()
    (group,) = json.loads(path.read_text())
    assert agent.url == f"http://{group['targets'][0]}"
print("trained", flush=True)
"""


def blocks(language: str) -> list[str]:
    """Return the page's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_blocks_are_of_two_kinds():
    """Each is run here, or marked as one that needs more than a shell."""
    assert set(re.findall(r"^```(\w+)$", PAGE, re.MULTILINE)) == {"bash", "console"}


def test_bash_runs(tmp_path):
    """One after the other, as a reader would, beside a training script of the reader's own."""
    (tmp_path / "train.py").write_text(TRAINING)
    paths = os.pathsep.join(str(ROOT / root) for root in ("agent", "dashboards", "exporters"))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks("bash"))],
        cwd=tmp_path,
        env={
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "PYTHONPATH": paths,
            "LOOPSCOPE_STRICT": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("trained\n")
    assert (tmp_path / "my-rules" / "rules.yaml").read_text().count("3600") > 0
    assert len(list((tmp_path / "my-dashboards").glob("*.json"))) == 5
    token = tmp_path / ".config" / "loopscope" / "token"
    assert len(token.read_text()) == 65
    assert token.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("block", blocks("console"))
def test_console_is_shell(block):
    """Every line has a prompt, `$` or root's `#`, and bash parses what follows it."""
    lines = block.splitlines()

    assert all(line.startswith(("$ ", "# ")) for line in lines)
    done = subprocess.run(
        ["bash", "-n"], input="\n".join(line[2:] for line in lines), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_paths_exist():
    """Every file and folder of the repository that is named, in a command or in the text."""
    named = set(re.findall(r"(?<![\w./-])((?:deploy|dashboards|tests|docs)/[\w./-]*\w/?)", PAGE))

    assert len(named) > 12
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_variables_are_those_of_compose():
    """What the page says to set, compose.yaml or the agent reads."""
    known = (ROOT / "deploy" / "compose" / "compose.yaml").read_text() + (ROOT / "README.md").read_text()
    known += (ROOT / "docs" / "opentelemetry.md").read_text()
    known += (ROOT / "deploy" / "otel-collector" / "config.yaml").read_text()
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", PAGE))

    assert {"GRAFANA_ADMIN_PASSWORD", "SCRAPE_TOKEN_FILE", "LOOPSCOPE_DISCOVERY_DIR", "COLLECTOR_HOST"} <= named
    assert [name for name in sorted(named) if name not in known] == []
