"""docs/architecture.md is true: the layers of the contract, examples that work, every private name of torch."""

from __future__ import annotations

import fnmatch
import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.builders import step_report
from tests.detecting import see
from tests.docs.fenced import blocks
from tests.docs.private_names import is_private, private_names
from tests.python_process import ROOT

import loopscope
from loopscope.guard import Guard
from loopscope.hooks import HookSet

PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text()
SOURCE = ROOT / "agent" / "loopscope"


def section(title: str) -> str:
    """Return what stands below a heading, up to the next one of its rank or above."""
    rank = title.partition(" ")[0]
    found = re.search(rf"^{title}\n(.*?)(?=^#{{1,{len(rank)}}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table in a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def named(cell: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_layers_are_those_of_the_contract() -> None:
    """Row by row as import-linter has them; what may be missing, and is, has no place."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    names = [[name.strip(" ()") for name in layer.split("|")] for layer in layers]
    there = [[name for name in row if list(SOURCE.glob(f"{name}*"))] for row in names]

    assert [set(named(row[1])) for row in rows("## Layers")] == [set(row) for row in there]


def test_every_file_of_the_exporters_has_its_place() -> None:
    """In the table, by the name of its module; those of the live page too."""
    package = ROOT / "exporters" / "loopscope_exporters"
    files = [path for folder in (package, package / "live") for path in folder.glob("*.py")]
    folders = [path.parent for path in package.glob("*/__init__.py")]
    text = {name for row in rows("## Exporters") for cell in row for name in named(cell)}

    assert {path.stem for path in (*files, *folders)} - {"__init__"} - text == set()


def example(title: str) -> dict[str, Any]:
    """Return what the Python block of a section defines, where a model and an optimizer are there."""
    (block,) = [each for each in blocks("python") if each.page == PAGE and each.text in section(title)]
    model = torch.nn.Linear(2, 1)
    namespace = {
        "torch": torch,
        "loopscope": loopscope,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    with loopscope.attach(namespace["model"], namespace["optimizer"], port=None) as agent:
        exec(block.text, namespace)  # attaching the same objects again returns the same agent
        namespace["agent"] = agent
    return namespace


def test_example_of_an_exporter(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one, prints the slow step and no other, and its factory takes the settings."""
    made = example("### Exporter")
    settings = {name: getattr(loopscope.Config(), name) for name in ("overhead_budget", "port")}
    exporter = made["create"](settings)

    exporter.export(step_report(7, duration_seconds=1.5))
    exporter.export(step_report(8, duration_seconds=0.5))

    assert isinstance(exporter, loopscope.Exporter)
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["7", "1.5"]]


def test_example_of_an_entry_point() -> None:
    """It is of the group that the agent looks in, and is named as the setting in the text is."""
    (block,) = [each for each in blocks("toml") if each.page == PAGE]
    group = importlib.import_module("loopscope.outlets")._GROUP

    (name,) = tomllib.loads(block.text)["project"]["entry-points"][group]
    assert f'exporters=("{name}",)' in TEXT


def test_example_of_a_detector() -> None:
    """It is one, and tells of the smaller batch once."""
    detector = example("### Detector")["RaggedBatch"]()

    reports = [step_report(step, samples=size) for step, size in enumerate((32, 32, 20, 20))]
    events = see(detector, reports)

    assert isinstance(detector, loopscope.Detector)
    assert [(event.kind, event.step) for event in events] == [("ragged_batch", 2)]


def test_example_of_rules() -> None:
    """The settings are taken as they stand there."""
    with pytest.MonkeyPatch.context() as patch:
        taken: list[dict[str, Any]] = []
        patch.setattr(loopscope, "attach", _recording(taken))
        example("### Rule")

    assert taken[-1]["rules"] == ("loss_plateau=off", "gradient_spike.z_score=8")


def _recording(taken: list[dict[str, Any]]) -> Any:
    attach = loopscope.attach

    def recorded(*things: Any, **settings: Any) -> Any:
        taken.append(settings)
        return attach(*things, **settings)

    return recorded


def test_example_of_a_probe(tmp_path: Path) -> None:
    """It is one, counts, and leaves nothing behind."""
    hooks, original = HookSet(), torch.save
    probe = example("### Probe")["SaveProbe"](hooks, Guard(strict=True).at("probe.saves"))

    probe.install()
    torch.save({}, tmp_path / "one")
    probe.remove()
    hooks.remove()
    torch.save({}, tmp_path / "two")

    assert isinstance(probe, loopscope.Probe)
    assert probe.num_saves == 1
    assert torch.save is original


def private_rows() -> list[tuple[list[str], list[str]]]:
    """Return the private parts and the places of each row."""
    table = [(named(row[0]), named(row[1])) for row in rows("## What of torch is private")]
    return [(tokens, places) for tokens, places in table if tokens]  # one is of the texts of warnings


def is_listed(name: str) -> bool:
    """Whether a row names it: whole, as the beginning of a longer name, or by a part that stands for it."""
    parts = name.split(".")
    for token in (token for tokens, _ in private_rows() for token in tokens):
        listed = token.split(".")
        for first in range(len(listed) - len(parts) + 1):
            window = zip(parts, listed[first:], strict=False)
            if all(fnmatch.fnmatch(theirs, ours + "*" * ours.endswith("_")) for ours, theirs in window):
                return True
    return False


FOUND = private_names(path for path in sorted(SOURCE.rglob("*.py")) if "top" not in path.parts)


@pytest.mark.parametrize("name", sorted(FOUND))
def test_every_private_name_is_listed(name: str) -> None:
    """What the source touches of torch's private parts is in the table, with the file that does."""
    assert is_listed(name)


@pytest.mark.parametrize(("tokens", "places"), private_rows(), ids=lambda each: each[0][:40])
def test_every_listed_name_is_touched(tokens: list[str], places: list[str]) -> None:
    """What the table names is in the source, in the files that it says."""
    files = [
        file for place in places for file in ((SOURCE / place).glob("*.py") if place[-1] == "/" else [SOURCE / place])
    ]
    text = "\n".join(file.read_text() for file in files)

    assert files
    assert [token for token in tokens if token.rstrip("_").split(".")[-1] not in text] == []


@pytest.mark.parametrize("name", sorted(name for name in FOUND if name.startswith("torch.")))
def test_every_file_that_touches_it_is_told(name: str) -> None:
    """A row that has the whole name, or a longer one, names each of the files, or their folder."""
    told = {place for tokens, places in private_rows() for token in tokens if _covers(token, name) for place in places}
    files = {path.relative_to(SOURCE).as_posix() for path in FOUND[name]}

    assert {file for file in files if not any(file.startswith(place) for place in told)} == set()


def _covers(token: str, name: str) -> bool:
    return token == name or token.startswith(name if name.endswith("_") else f"{name}.")


def test_private_is_what_begins_with_one_underscore() -> None:
    """Names with two are the language's."""
    assert [is_private(part) for part in ("_C", "__path__", "nn")] == [True, False, False]
