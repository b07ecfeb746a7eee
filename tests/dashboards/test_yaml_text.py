"""YAML that a person reads and a parser reads back as the same."""

from __future__ import annotations

import pytest
import yaml

from loopscope_dashboards.yaml_text import yaml_text


@pytest.mark.parametrize(
    "value",
    [
        "plain words",
        "a: b",
        "ends with a colon:",
        "# no comment",
        "word # word",
        "{{ $labels.agent }}",
        "'single' and \"double\"",
        'only "double"',
        "it's",
        "",
        " ",
        "two  spaces",
        " leading",
        "trailing ",
        "yes",
        "Null",
        "on",
        "1",
        "1e3",
        "0x1f",
        "1_000",
        "12:30:45",
        "2026-01-01",
        ".5",
        "~",
        "-",
        "- a",
        "? a",
        "*alias",
        "&anchor",
        "!tag",
        "%percent",
        "@at",
        "`tick`",
        "5m",
        "30s",
        "back\\slash",
        'back\\slash and "quotes"',
        "tab\there",
        "first\nsecond",
        "first\n\nthird",
        "first\n  indented",
        "\nbegins empty",
        "ends empty\n",
        "caf\u00e9 \u2028 \U0001f600",
        "nul\x00 bell\x07",
        "a, b",
        "[a]",
        "https://example.org/a#b",
        0,
        1.5,
        True,
        False,
        [],
        {},
        [1, "two", ["three", []], {"four": [{"five": 6}]}],
        {"on": "off", "a b": {"c": ["d\ne"]}},
    ],
)
def test_is_read_back(value):
    """As a value, and as an element of a list."""
    data = {"key": value, "list": [value, {"inner": value}]}

    assert yaml.safe_load(yaml_text(data)) == data


def test_is_readable():
    """Keys keep their order, words need no quotes, lines are lines."""
    data = {"name": "loopscope-runs", "rules": [{"alert": "A", "for": "5m", "expr": "up == 0\nunless\nup"}]}

    assert yaml_text(data) == (
        "name: loopscope-runs\nrules:\n  - alert: A\n    for: 5m\n    expr: |-\n      up == 0\n      unless\n      up\n"
    )
