"""All files of deploy/: they parse, and hold nothing that belongs elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from tests.deploy.files import DEPLOY, read_yaml
from tests.python_process import ROOT

import loopscope
from loopscope.catalog import METRICS
from loopscope_dashboards.settings import RuleSettings

FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
YAML_FILES = [*(path for path in FILES if path.suffix in {".yaml", ".yml"}), ROOT / "dashboards" / "kustomization.yaml"]
SHELL_SCRIPTS = [path for path in FILES if path.read_text().startswith("#!/usr/bin/env bash\n")]
PYTHON_BIN = Path(sys.executable).parent
FLAGS = re.MULTILINE


def name_of(path: Path) -> str:
    """Return the path within the repository."""
    return str(path.relative_to(ROOT))


def test_there_is_all_that_the_layout_names():
    """Compose, Prometheus, Grafana, the collector, Kubernetes, systemd and Slurm each have a folder."""
    assert {path.name for path in DEPLOY.iterdir()} == {
        "compose",
        "grafana",
        "kubernetes",
        "otel-collector",
        "prometheus",
        "slurm",
        "systemd",
    }


@pytest.mark.parametrize("path", YAML_FILES, ids=name_of)
def test_yaml_is_one_document_without_a_key_twice(path):
    """It is a mapping, and what is written is what is read."""
    assert isinstance(read_yaml(path), dict)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_query_and_no_threshold(path):
    """Rules, queries and bounds come from dashboards/ alone: none of their words is here, nor a metric."""
    text = path.read_text()
    words = set(re.findall(r"[A-Za-z_][\w]*", text))
    metrics = {metric.prometheus_name for metric in METRICS}

    assert not re.search(r"^\s*(?:- )?['\"]?(?:expr|record|alert|for|keep_firing_for|thresholds?)['\"]?:", text, FLAGS)
    assert not re.search(
        r"(?<![.\w])(?:rate|increase|sum|avg|min|max|count|histogram_quantile|\w+_over_time) ?(?:by ?)?\(", text
    )
    assert words & (metrics | {field.name for field in fields(RuleSettings)}) == set()
    assert not re.search(r"Loopscope[A-Z]", text), "the name of an alert"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_variables_are_settings(path):
    """What begins with LOOPSCOPE_ is a setting: the agent warns of others, and they would do nothing."""
    named = set(re.findall(r"\bLOOPSCOPE_\w+", path.read_text()))

    assert named <= {f"LOOPSCOPE_{field.name.upper()}" for field in fields(loopscope.Config)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_image_has_an_exact_version(path):
    """No tag that moves, and none left out; `training` is what Kustomize replaces."""
    text = path.read_text()
    images = re.findall(r"^\s*image: (\S+)", text, FLAGS)
    tags = re.findall(r"^\s*newTag: (\S+)", text, FLAGS)

    assert [image for image in images if not re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+|training", image)] == []
    assert [tag for tag in tags if not re.fullmatch(r"v?\d+\.\d+\.\d+", tag)] == []
    assert "latest" not in text


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_secret_is_committed(path):
    """Passwords and tokens come from outside: a variable, a file or a Secret."""
    values = re.findall(r"(?i)(?:password|passwd|token|secret)\w*[ \t]*[:=][ \t]*[\"']?([^\s\"']*)", path.read_text())

    assert [
        value for value in values if value and not value.startswith(("$", "?", "-", "#")) and value != "false"
    ] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_is_told_of(path):
    """docs/deploy.md names the file, or its folder."""
    page = (ROOT / "docs" / "deploy.md").read_text()

    assert any(f"{name_of(each)}" in page for each in (path, *path.parents) if DEPLOY in each.parents)


def test_there_are_shell_scripts():
    """The next two tests have something to look at."""
    assert [name_of(path) for path in SHELL_SCRIPTS] == ["deploy/slurm/train.sbatch"]


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=name_of)
def test_bash_parses(path):
    """Without running it."""
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    shutil.which("shellcheck", path=f"{PYTHON_BIN}:/usr/bin") is None, reason="shellcheck is not installed"
)
@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=name_of)
def test_shellcheck_finds_nothing(path):
    """Errors, warnings and matters of style."""
    program = shutil.which("shellcheck", path=f"{PYTHON_BIN}:/usr/bin")
    done = subprocess.run([program, "--severity=style", str(path)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
