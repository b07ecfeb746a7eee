"""Laws of reading with and without orjson: the same entries, the same lines that cannot be read."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.builders import activity_report, epoch_report, event, gradient_sample, gradient_table, run_info, step_report
from tests.jsonl_logs import write

from loopscope_exporters import jsonl

RECORDS = (
    run_info(settings={"port": 0, "note": 'Zürich \U0001f525 \\ " \x00 \x7f', "file": "caf\udce9.py"}),
    step_report(0, loss=1.7976931348623157e308, gradients=gradient_table((1e-45, 1e150), sample=gradient_sample(2, 2))),
    step_report(
        1, gradients=gradient_table((1 / 3, math.nan), layers=("a", "b"), num_nonfinite=(0, 2**62)), loss=-math.inf
    ),
    step_report(2**63 - 1, gradients=None, loss=0.1 + 0.2, time_unix_seconds=1763800000.1234567),
    event(value=5e-324, attributes={"rows": [1, -1], "nested": {"a": {"b": [None, True, 1e16]}}}),
    activity_report(),
    epoch_report(),
)
CUT = (
    b'{"version":1,"type":"event","ki',
    b"[1, 2]",
    b"3",
    b"null",
    b"\xff\xfe",
    b'{"a":1}{"b":2}',
    b"{'a': 1}",
    b'{"a":01}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"version":1,"type":"step","step":' + b"7" * 10_000 + b"}",
)


@pytest.fixture(params=["orjson", "json"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What reads: orjson, and json where there is no orjson."""
    if request.param == "json":
        monkeypatch.setitem(sys.modules, "orjson", None)
    jsonl._loads.cache_clear()
    assert (jsonl._loads() is jsonl._json_loads) == (request.param == "json")
    yield request.param
    jsonl._loads.cache_clear()


def _as_json_reads(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.usefixtures("parser")
def test_every_value_comes_back(path: Path) -> None:
    """To the last digit, whatever is in a text: file names that are no UTF-8 among them."""
    write(path, *RECORDS)

    entries = list(jsonl.read(path))

    assert repr(entries) == repr(_as_json_reads(path))
    assert entries[0]["settings"]["file"] == "caf\udce9.py"
    assert entries[1]["gradients"]["norms"] == [1e-45, 1e150]
    assert (entries[2]["loss"], entries[2]["gradients"]["num_nonfinite"]) == ("-Infinity", [0, 2**62])
    assert (entries[3]["step"], entries[3]["loss"]) == (2**63 - 1, 0.1 + 0.2)
    assert (entries[4]["value"], entries[4]["attributes"]["nested"]) == (5e-324, {"a": {"b": [None, True, 1e16]}})


@pytest.mark.usefixtures("parser")
def test_what_is_no_entry_is_counted(path: Path) -> None:
    """Lines that were cut, or are of something else, are left out; what stands around them is read."""
    write(path, RECORDS[0], RECORDS[3])
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, b"", *CUT, b"   ", second, second[:-20]]))
    reader = jsonl.read(path)

    entries = list(reader)

    assert [entry["type"] for entry in entries] == ["run", "step"]
    assert reader.num_cut_lines == len(CUT) + 1


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**64 - 1, 2**65, -(2**65), 10**400])
def test_integers_beyond_64_bits_are_floats(path: Path, number: int) -> None:
    """Of loopscope nothing counts so far; what is beyond floats is infinite, as in any reader of JSON."""
    path.write_bytes(b'{"version":1,"type":"event","value":%d}\n' % number)

    (entry,) = jsonl.read(path)

    assert entry["value"] == (number if abs(number) < 2**400 else math.inf)
    assert isinstance(entry["value"], int if -(2**63) <= number < 2**64 else float)


@pytest.mark.usefixtures("parser")
def test_numbers_that_json_has_not_are_read(path: Path) -> None:
    """NaN as a number, which Python writes and JSON has not: others may have written the line."""
    path.write_bytes(b'{"version":1,"type":"event","value":NaN,"threshold":-Infinity}\n')

    (entry,) = jsonl.read(path)

    assert math.isnan(entry["value"])
    assert entry["threshold"] == -math.inf
