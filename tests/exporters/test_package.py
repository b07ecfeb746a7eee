"""The package as a whole: what it imports, what it offers, and that it has no state."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from tests.python_process import run_python

import loopscope_exporters
from loopscope.protocols import Exporter

PREFIX = "loopscope_exporters."
MODULES = sorted(
    module.name.removeprefix(PREFIX) for module in pkgutil.walk_packages(loopscope_exporters.__path__, PREFIX)
)

_BLOCKED = """
import importlib, sys
sys.modules["torch"] = None  # any import of torch is an ImportError from here on
for name in sys.argv[1:]:
    importlib.import_module(f"loopscope_exporters.{name}")
"""


def test_every_module_imports_without_torch():
    """On a machine without torch the whole package can be imported."""
    assert run_python("-W", "error", "-c", _BLOCKED, *MODULES).stdout == ""


@pytest.mark.parametrize("name", MODULES)
def test_the_public_names_are_listed(name):
    """`__all__` is sorted, as ruff sorts it, and everything in it exists."""
    module = importlib.import_module(f"loopscope_exporters.{name}")

    assert all(hasattr(module, public) for public in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", ["jsonl", "log", "memory"])
def test_a_module_named_in_the_settings_can_be_created(name, tmp_path):
    """`create` turns a Config's fields into an Exporter of that name."""
    settings = {"history": 10, "jsonl": str(tmp_path / "run.jsonl"), "jsonl_max_bytes": 4_096, "jsonl_files": 1}

    exporter = importlib.import_module(f"loopscope_exporters.{name}").create(settings)
    exporter.close()

    assert isinstance(exporter, Exporter)
    assert exporter.name == name
