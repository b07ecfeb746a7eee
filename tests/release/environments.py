"""Environments to install the wheel into: what runs in one sees neither the repository nor settings of the caller.

What the wheel requires, and nothing else, is linked from the environment of the tests: a copy of torch takes minutes,
and one for CUDA gigabytes. To pip what is linked is installed: its own resolver still has to find all of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.python_process import ROOT

__all__ = ["Environment", "metadata_of"]

_FOREIGN = ("PYTHON", "LOOPSCOPE_", "OTEL_")


class Environment:
    """A virtual environment in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = folder / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"

    @classmethod
    def create(cls, folder: Path, wheel: Path, extra: str = "") -> Environment:
        """Make one with what `pip install 'WHEEL[extra]'` puts there, and nothing else, not even pip."""
        environment = cls(folder)
        venv.create(folder, clear=True, symlinks=True)
        for needed in _closure(metadata_of(wheel), extra):
            _link(needed, environment.packages)
        what = f"{wheel}[{extra}]" if extra else str(wheel)
        environment.pip("install", "--quiet", "--no-index", "--no-compile", what)
        return environment

    def pip(self, *arguments: str) -> str:
        """Run the tests' pip on it and return what it printed; AssertionError where it failed."""
        return _run(
            sys.executable, "-m", "pip", "--python", self._program("python"), *arguments, cwd=self.folder
        ).stdout

    def run(self, program: str, *arguments: str, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program of it; AssertionError with what it printed where it ended with another status."""
        return _run(self._program(program), *arguments, cwd=cwd, status=status)

    def _program(self, name: str) -> str:
        return str(self.folder / "bin" / name)


def metadata_of(wheel: Path) -> Distribution:
    """Return the metadata in a wheel."""
    (found,) = distributions(path=[str(wheel)])
    return found


def _closure(of: Distribution, extra: str) -> Iterable[Distribution]:
    """Return all that a distribution needs with an extra, directly or not."""
    found: dict[str, Distribution] = {}
    wanted = list(_needs(of, {extra}))
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = distribution(name)
            wanted += _needs(found[name], requirement.extras)
    return found.values()


def _needs(of: Distribution, extras: Iterable[str]) -> Iterable[Requirement]:
    for text in of.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield requirement


def _link(installed: Distribution, folder: Path) -> None:
    """Link packages as a whole, and the files of other folders each: several distributions may share those."""
    root = Path(str(installed.locate_file("")))
    files = [file for file in installed.files or () if ".." not in file.parts]
    tops = {file.parts[0] for file in files if (root / file.parts[0] / "__init__.py").exists()}
    for name in {*tops, *(str(file) for file in files if file.parts[0] not in tops)}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(root / name)


def _run(*command: str, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    assert not cwd.is_relative_to(ROOT)
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done
