"""The report in a terminal says the same, in lines of a given width, and gives a terminal nothing to act on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.pages import KINDS, write_log

from loopscope.report import Log, summarise, text_report
from loopscope.report.curves import Curve
from loopscope.report.text import columns, sparkline


def text_of(directory: Path, kind: str, **options: object) -> str:
    """Return the text of a log of that kind."""
    return text_report(summarise(Log(write_log(directory, kind))), **{"width": 100} | options)  # type: ignore[arg-type] # plain values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [60, 100])
def test_lines_keep_to_the_width(tmp_path: Path, kind: str, width: int) -> None:
    """No line is longer than the terminal is wide."""
    lines = text_of(tmp_path, kind, width=width).splitlines()

    assert [line for line in lines if len(line) > width] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminal_is_given_printable_text(tmp_path: Path, kind: str) -> None:
    """No control, no colour, and on a terminal without Unicode nothing beyond ASCII."""
    assert all(line.isprintable() for line in text_of(tmp_path, kind).split("\n"))
    assert text_of(tmp_path, kind, is_unicode=False).isascii()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("full", ["warning: vanishing_gradient at encoder, step 12, first cause", "1 followed: loss_spike."]),
        ("full", ["vanishing (vanishing_gradient)", "train.py:1", "recompiled", "graph break"]),
        ("nan", ["critical: nonfinite_gradient", "20 not finite", "!!!!!!"]),
        ("gan", ["optimizer generator:", "optimizer critic:"]),
        ("wide", ["1,980 further layers are in the log."]),
        ("no_steps", ["No step was logged.", "Nothing to act on."]),
    ],
)
def test_text_says_what_the_page_says(tmp_path: Path, kind: str, words: list[str]) -> None:
    """Incidents with cause and remedy, layers with their health, lines with their counts."""
    text = text_of(tmp_path, kind)

    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 7.0], "▁█"),
        ([1.0, 1.0, 1.0], "▅▅▅"),
        ([1.0, float("nan"), 8.0], "▁!█"),
        ([1.0, 10.0, 100.0], "▁▅█"),  # a ratio of 100: logarithmic
        ([0.0, 50.0, 100.0], "▁▅█"),
        ([float("nan")], "!"),
    ],
)
def test_sparkline_is_the_curve(values: list[float], expected: str) -> None:
    """Low is low and high is high; what is not finite is marked."""
    curve = Curve()
    for step, value in enumerate(values):
        curve.add(step, value)

    assert sparkline(curve, 10) == expected


def test_long_names_are_shortened_in_their_middle() -> None:
    """A table that is too wide shortens its first column, whose ends tell layers and lines apart."""
    text = columns([["layer", "norm"], ["transformer.layers.11.attention.projection", "1"]], width=30)

    assert max(map(len, text.splitlines())) == 30
    assert "transformer" in text
    assert "…" in text
    assert ".projection " in text
