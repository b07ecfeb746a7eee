"""What the README shows works: its Python runs, its commands, files, metrics and settings exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from tests.python_process import ROOT, run_python

import loopscope
from loopscope.catalog import METRICS
from loopscope.cli import main

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

PREAMBLE = """
import os
os.environ["LOOPSCOPE_PORT"] = "0"
import torch
import loopscope

torch.set_num_threads(1)
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
dataset = torch.utils.data.TensorDataset(torch.randn(16, 4), torch.randint(3, (16,)))
loader = torch.utils.data.DataLoader(dataset, batch_size=8)
with loopscope.attach(model, optimizer, port=None, jsonl="run.jsonl"):
    for inputs, targets in loader:
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
"""
"""What a reader has before a block of the README: a model, an optimizer, a loader, and the log of a run."""


def blocks(language: str) -> list[str]:
    """Return the README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("index", range(len(blocks("python"))))
def test_python_runs(index: int, tmp_path: Path) -> None:
    """Every Python block runs, without a warning, where a model, an optimizer and a loader are there."""
    script = tmp_path / "block.py"
    script.write_text(PREAMBLE + blocks("python")[index])

    run_python("-W", "error", str(script), cwd=tmp_path)


def test_make_targets_exist() -> None:
    """Every `make TARGET` is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make (\S+)|`make (\S+)`", README, re.MULTILINE))

    assert {first or second for first, second in named} <= targets
    assert {"demo", "test"} <= targets


def test_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Every `loopscope COMMAND` and its options are in the command's own help."""
    calls = re.findall(r"`(?:\S+/)?loopscope ([a-z]+)((?: --[a-z]+)*)`", README)

    assert calls
    for command, options in calls:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        text = capsys.readouterr().out
        assert all(option in text for option in options.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is to a file that is there."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_exist(page: Path) -> None:
    """Every path in code type is there."""
    paths = re.findall(r"`((?:agent|benchmarks|docs|examples|exporters|scripts|tests)/[\w./-]*)`", page.read_text())

    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_metrics_are_in_the_catalog() -> None:
    """Every metric that is named exists."""
    known = {metric.prometheus_name for metric in METRICS}
    named = set(re.findall(r"\bloopscope_(?!exporters)[a-z0-9_]+", README))

    assert named - known == set()


def test_settings_are_complete_and_true() -> None:
    """The table has every setting, its variable and its default."""
    rows = re.findall(r"^\| `(\w+)` \| `(LOOPSCOPE_\w+)` \| (.+?) \|", README, re.MULTILINE)
    settings = fields(loopscope.Config)

    assert [row[:2] for row in rows] == [(field.name, f"LOOPSCOPE_{field.name.upper()}") for field in settings]
    assert [
        (name, default.strip("`"), field.default)
        for (name, _, default), field in zip(rows, settings, strict=True)
        if field.default not in (None, ()) and default.strip("`") != str(field.default)
    ] == []


def test_scrape_configuration_names_the_default_port() -> None:
    """What is given to Prometheus is YAML and finds an agent with default settings."""
    (configuration,) = map(yaml.safe_load, blocks("yaml"))
    config = loopscope.Config()

    (job,) = configuration["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{config.host}:{config.port}"]}]


def test_examples_of_output_are_of_the_demo() -> None:
    """The layers of the shown table and metrics are those of the demo's network."""
    code = "from loopscope.cli.digits import DigitsNetwork; print(*dict(DigitsNetwork().named_children()))"
    layers = run_python("-c", code).stdout.split()

    assert re.search(r"^epoch +steps +loss +global +" + " +".join(layers) + " +non-finite$", README, re.MULTILINE)
    assert set(re.findall(r'layer="(\w+)"', README)) <= set(layers)


def test_benchmark_has_its_place() -> None:
    """The table that the benchmark writes goes between two marks, once."""
    assert re.findall(r"<!-- benchmark:(\w+) -->", README) == ["begin", "end"]
