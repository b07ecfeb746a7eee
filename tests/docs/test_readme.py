"""What the README says of settings and of the demo is so; test_blocks.py and test_commands.py run what it shows."""

from __future__ import annotations

import re
from dataclasses import fields

from tests.python_process import ROOT, run_python

import loopscope

README = (ROOT / "README.md").read_text()


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


def test_output_is_that_of_the_demo() -> None:
    """The layers of tables and metrics that are shown are those of the demo's network."""
    code = """
from loopscope.cli.demo.digits import DigitsNetwork
print(*[name for name, layer in DigitsNetwork().named_children() if list(layer.parameters())])
"""
    layers = run_python("-c", code).stdout.split()

    columns = re.findall(r"^epoch +steps +loss +global +(.*?) +non-finite$", README, re.MULTILINE)
    named = re.findall(r'layer="(\w+)"', README)
    assert columns or named
    assert all(each.split() == layers for each in columns)
    assert set(named) <= set(layers)


def test_benchmark_has_its_place() -> None:
    """The table that the benchmark writes goes between two marks, once."""
    assert re.findall(r"<!-- benchmark:(\w+) -->", README) == ["begin", "end"]
