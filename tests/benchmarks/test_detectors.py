"""The benchmark of the detectors runs, and what it says of them is true: they keep no more of a longer run."""

from __future__ import annotations

import re
from pathlib import Path

from tests.python_process import run_python

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "detectors.py"


def test_what_is_kept_does_not_grow() -> None:
    """Two blocks of steps, each with the NaN or without: its events, and the size after the first and at the end."""
    said = run_python(str(_SCRIPT), "--steps", "10000", "--layers", "8").stdout

    found = re.search(
        r"^10,000 steps of 8 layers: .* (\d+) events; kept (\d+) kB .*, (\d+) kB at the end$", said, re.MULTILINE
    )
    assert found, said
    num_events, first, last = map(int, found.groups())
    assert num_events > 0
    assert 0 < last <= 1.2 * first + 1


def test_a_replay_finds_the_same() -> None:
    """The steps from a log open as many events as the steps themselves."""
    few = ("--steps", "12000", "--layers", "4")
    said, replayed = (run_python(str(_SCRIPT), *few, *more).stdout for more in ((), ("--replay",)))

    found = re.search(r"^replay of a log of .* MB, 12,000 steps of 4 layers: .* (\d+) events$", replayed, re.MULTILINE)
    assert found, replayed
    assert f", {found[1]} events;" in said
    assert int(found[1]) > 0
