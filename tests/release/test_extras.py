"""Each extra alone: without it a message names it, with it and nothing else what it is for works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.otlp_receiver import receive
from tests.python_process import ROOT
from tests.release.environments import Environment, metadata_of

IMPORT = """
import importlib, json, sys

missing = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as fault:
        missing[name] = (fault.__cause__ or fault).name.partition(".")[0]
print(json.dumps(missing))
"""
TRAIN = """
import os, subprocess, sys
import loopscope, torch

torch.set_num_threads(1)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)

def train(**settings):
    agent = loopscope.attach(model, optimizer, strict=True, log_events=False, **settings)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        optimizer.step()
    agent.flush()
    return agent
"""
EXPORT = f"""{TRAIN}
protocol, endpoint = sys.argv[1:]
os.environ |= {{"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}}
train(port=None, exporters=("otlp",)).detach()
"""
LOOK = f"""{TRAIN}
agent = train(port=0)
subprocess.run([sys.executable, "-W", "error", "-m", "loopscope.cli", "top", "--once", agent.url], check=True)
"""
PARSER = """
import sys
from loopscope_exporters import jsonl

jsonl._loads()(b"{}")
print("orjson" if "orjson" in sys.modules else "json")
"""
RECORD = f"""{TRAIN}
train(port=None, jsonl="run.jsonl").detach()
"""


def run(environment: Environment, *arguments: str, cwd: Path, status: int = 0) -> str:
    """Run Python with warnings as errors; return what it said, stderr where it failed."""
    done = environment.run("python", "-W", "error", *arguments, cwd=cwd, status=status)
    if status:
        return done.stderr
    assert done.stderr == ""
    return done.stdout


def missing(environment: Environment, modules: Iterable[str], cwd: Path) -> dict[str, str]:
    """Import the modules; return the packages that they want and that are not there, by module."""
    found: dict[str, str] = json.loads(run(environment, "-c", IMPORT, *modules, cwd=cwd))
    return found


def export(environment: Environment, cwd: Path) -> None:
    """A collector gets the metrics, over gRPC and over HTTP."""
    for protocol, of_receiver in (("grpc", "grpc"), ("http/protobuf", "http")):
        with receive(of_receiver) as receiver:
            run(environment, "-c", EXPORT, protocol, receiver.endpoint, cwd=cwd)
            assert list(receiver.values("loopscope.steps").values()) == [5.0]


def write_dashboards(environment: Environment, cwd: Path) -> None:
    """Others than the packaged ones can be written."""
    run(environment, "-m", "loopscope.cli", "dashboards", "--out", "boards", "--grafana", "11", cwd=cwd)
    assert json.loads((cwd / "boards" / "loopscope-overview.json").read_text())["schemaVersion"] == 39


def demonstrate(environment: Environment, cwd: Path) -> None:
    """The demo trains."""
    said = run(environment, "-m", "loopscope.cli", "demo", "--epochs", "1", "--port", "0", cwd=cwd)
    assert "Training is done." in said
    assert "conv1" in said


def look(environment: Environment, cwd: Path) -> None:
    """A run under way is seen."""
    assert "model" in run(environment, "-c", LOOK, cwd=cwd)


def read(environment: Environment, cwd: Path) -> None:
    """A log can be read, as it can without the extra."""
    run(environment, "-c", RECORD, cwd=cwd)
    assert "5 steps read" in run(environment, "-m", "loopscope.cli", "replay", "run.jsonl", cwd=cwd)


def read_faster(environment: Environment, cwd: Path) -> None:
    """It is orjson that reads."""
    assert run(environment, "-c", PARSER, cwd=cwd) == "orjson\n"
    read(environment, cwd)


class Extra(NamedTuple):
    """What an extra is for."""

    packages: set[str]
    works: Callable[[Environment, Path], None]
    without: list[str]
    """What wants it and says so; empty where it only makes something faster."""


EXTRAS = {
    "dashboards": Extra(
        {"grafanalib"}, write_dashboards, ["-m", "loopscope.cli", "dashboards", "--out", "o", "--grafana", "11"]
    ),
    "demo": Extra({"sklearn"}, demonstrate, ["-m", "loopscope.cli", "demo", "--port", "0"]),
    "otlp": Extra({"google", "h2", "opentelemetry"}, export, ["-c", EXPORT, "grpc", "http://127.0.0.1:9"]),
    "logs": Extra({"orjson"}, read_faster, []),
    "top": Extra({"rich"}, look, ["-m", "loopscope.cli", "top"]),
}
NEEDED = {name for name, extra in EXTRAS.items() if extra.without}
FOR_DEVELOPERS = {"all", "dev"}


@pytest.fixture(scope="module", params=EXTRAS)
def installed(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Environment]:
    """An extra, and an environment with it and no other."""
    return request.param, Environment.create(tmp_path_factory.mktemp(request.param), wheel, request.param)


def test_every_extra_is_known_here(wheel: Path) -> None:
    """One that is added to pyproject.toml is tried as well."""
    assert set(metadata_of(wheel).metadata.get_all("Provides-Extra", [])) == EXTRAS.keys() | FOR_DEVELOPERS


@pytest.fixture(scope="module")
def wanting(base: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The modules that cannot be imported without extras, and the package that each wants."""
    modules = [
        ".".join(path.relative_to(base.packages).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(base.packages.glob("loopscope*/**/*.py"))
        if path.stem != "__main__"
    ]
    assert "loopscope.agent" in modules
    return missing(base, modules, tmp_path_factory.mktemp("wanting"))


def test_only_packages_of_extras_are_missing(wanting: dict[str, str]) -> None:
    """Without extras every module can be imported that is for none; Triton comes with torch for CUDA."""
    wanted = set(wanting.values())

    assert wanted <= {"triton"}.union(*(extra.packages for extra in EXTRAS.values()))
    assert all(wanted & EXTRAS[name].packages for name in NEEDED)


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_missing_extra_is_named(base: Environment, tmp_path: Path, name: str) -> None:
    """Who has not installed it is told how, where it is needed; nothing is left behind."""
    said = run(base, *EXTRAS[name].without, cwd=tmp_path, status=1)

    assert f"pip install 'loopscope[{name}]'" in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_an_extra_brings_its_packages(
    installed: tuple[str, Environment], wanting: dict[str, str], tmp_path: Path
) -> None:
    """With it every module can be imported that wanted it, and its packages themselves."""
    name, environment = installed
    packages = EXTRAS[name].packages
    modules = [module for module, package in wanting.items() if package in packages]

    assert missing(environment, [*modules, *packages], tmp_path) == {}


def test_what_only_makes_faster_can_be_left_out(base: Environment, tmp_path: Path) -> None:
    """Without orjson logs are read as well."""
    assert missing(base, EXTRAS["logs"].packages, tmp_path) == {"orjson": "orjson"}
    assert run(base, "-c", PARSER, cwd=tmp_path) == "json\n"
    read(base, tmp_path)


def test_an_extra_works(installed: tuple[str, Environment], tmp_path: Path) -> None:
    """What it is for works, with no other."""
    name, environment = installed

    EXTRAS[name].works(environment, tmp_path)


@pytest.mark.parametrize("name", sorted(FOR_DEVELOPERS))
def test_extras_for_developers_agree(wheel: Path, tmp_path: Path, name: str) -> None:
    """Nothing in them contradicts the rest."""
    environment = Environment.create(tmp_path, wheel, name)

    assert environment.pip("check") == "No broken requirements found.\n"


def test_constraints_pin_every_requirement(wheel: Path) -> None:
    """At a version that pyproject.toml allows: what CI runs is what is promised."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {
        canonicalize_name(name): version for name, equals, version in (line.partition("==") for line in lines) if equals
    }
    requirements = [Requirement(text) for text in metadata_of(wheel).requires or ()]

    assert [
        str(each) for each in requirements if not each.specifier.contains(pins.get(canonicalize_name(each.name), "0"))
    ] == []
