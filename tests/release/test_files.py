"""What is in the wheel and the sdist: every file that the packages need, and no other."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path

import pytest
from tests.python_process import ROOT
from trove_classifiers import classifiers

import loopscope

PACKAGES = {
    "loopscope": ROOT / "agent" / "loopscope",
    "loopscope_dashboards": ROOT / "dashboards" / "loopscope_dashboards",
    "loopscope_dashboards/rendered": ROOT / "dashboards" / "rendered",
    "loopscope_exporters": ROOT / "exporters" / "loopscope_exporters",
}
"""The folder of each part of the wheel."""
METADATA = f"loopscope-{loopscope.__version__}.dist-info"
LICENCES = ("LICENSE", "exporters/loopscope_exporters/live/page/uplot/LICENSE")


def sources() -> dict[str, Path]:
    """Return the path of each file of the packages by its name in a wheel."""
    return {
        f"{package}/{path.relative_to(folder).as_posix()}": path
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, bytes]:
    """The files in the wheel by their names."""
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(contents: dict[str, bytes]) -> EmailMessage:
    """What an index knows of the wheel."""
    return BytesParser(EmailMessage, policy=default).parsebytes(contents[f"{METADATA}/METADATA"])


def test_names_tell_the_version(dist: Path) -> None:
    """One wheel for every Python and machine, and one sdist."""
    assert sorted(path.name for path in dist.iterdir()) == [
        f"loopscope-{loopscope.__version__}-py3-none-any.whl",
        f"loopscope-{loopscope.__version__}.tar.gz",
    ]


def test_wheel_has_every_file_of_the_packages_and_no_other(contents: dict[str, bytes]) -> None:
    """The page, the style sheets, dashboards and rules are there, byte for byte; no cache, no test, no scratch file."""
    described = {name for name in contents if name.startswith(METADATA)}

    assert {name: contents[name] for name in contents.keys() - described} == {
        name: path.read_bytes() for name, path in sources().items()
    }
    assert described == {
        f"{METADATA}/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", *(f"licenses/{name}" for name in LICENCES))
    }


@pytest.mark.parametrize(
    "name",
    [
        "loopscope/py.typed",
        "loopscope/report/html/page.css",
        "loopscope_dashboards/py.typed",
        "loopscope_dashboards/rendered/loopscope-overview.json",
        "loopscope_dashboards/rendered/rules.yaml",
        "loopscope_exporters/live/page/index.html",
        "loopscope_exporters/live/page/uplot/LICENSE",
        "loopscope_exporters/py.typed",
    ],
)
def test_what_is_no_python_is_in_the_wheel(contents: dict[str, bytes], name: str) -> None:
    """Type checkers, the report, Grafana, Prometheus and the live page find theirs."""
    assert name in contents


def test_sdist_has_what_builds_the_wheel_and_no_other(dist: Path) -> None:
    """The sources as the checkout has them, and the files that pyproject.toml names."""
    top = f"loopscope-{loopscope.__version__}"
    with tarfile.open(dist / f"{top}.tar.gz") as archive:
        found = {member.name for member in archive.getmembers() if member.isfile()}

    assert found == {
        f"{top}/{name}"
        for name in (
            *(path.relative_to(ROOT).as_posix() for path in sources().values()),
            *(".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"),
        )
    }


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_another_build_gives_the_same_bytes(dist: Path, tmp_path: Path, kind: str) -> None:
    """From the checkout as from the sdist, now as later: no clock, no order of files, no umask is in it."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120, umask=0o077)

    (built,) = tmp_path.iterdir()
    assert built.read_bytes() == (dist / built.name).read_bytes()


def test_metadata_tells_what_the_project_is(metadata: EmailMessage) -> None:
    """The version is the package's, the README is the description, and the licences are those of the files."""
    assert metadata["Name"] == "loopscope"
    assert metadata["Version"] == loopscope.__version__
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    assert metadata["License-Expression"] == "Apache-2.0 AND MIT"
    assert set(metadata.get_all("License-File", [])) == set(LICENCES)


def test_classifiers_exist(metadata: EmailMessage) -> None:
    """An index refuses a file with one that it does not know."""
    assert set(metadata.get_all("Classifier", [])) - set(classifiers) == set()


def test_every_version_of_python_is_claimed_that_is_allowed(metadata: EmailMessage) -> None:
    """The oldest one of the classifiers is the one that pip asks for."""
    claimed = [text.rpartition(" ")[2] for text in metadata.get_all("Classifier", []) if ":: 3." in text]

    assert metadata["Requires-Python"] == f">={claimed[0]}"
