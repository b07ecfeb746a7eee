"""A log is read whole, rotated files first, and says what could not be read; what is no log is a clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.builders import event, run_info, self_report, step_report
from tests.jsonl_logs import write

from loopscope.errors import SettingError
from loopscope.report import Log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a log is to be."""
    return tmp_path / "run.jsonl"


def steps(log: Log) -> list[int]:
    """Return the numbers of its steps as they come."""
    return [entry["step"] for entry in log if entry["type"] == "step"]


def test_rotated_files_are_read_oldest_first(path: Path) -> None:
    """A log of several files has every step once, in order."""
    write(path, run_info(), *(step_report(step) for step in range(12)), max_bytes=4_000, num_files=20)
    assert path.with_name("run.jsonl.2").exists()

    log = Log(path)

    assert steps(log) == list(range(12))
    assert log.files() == [path, *(path.with_name(f"run.jsonl.{index}") for index in range(1, len(log.files())))]
    assert log.num_bytes == sum(file.stat().st_size for file in path.parent.iterdir())


def test_log_can_be_read_again(path: Path) -> None:
    """A second iteration begins anew, counts included."""
    write(path, run_info(), step_report(0), step_report(1))
    log = Log(path)

    assert steps(log) == steps(log) == [0, 1]
    assert log.num_entries == 3


def test_cut_lines_are_counted(path: Path) -> None:
    """A line that was cut in the middle is skipped, and counted once the log is read."""
    write(path, run_info(), step_report(0), step_report(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])

    log = Log(path)

    assert steps(log) == [0]
    assert log.num_cut_lines == 1


def test_dropped_lines_are_those_that_the_writer_states(path: Path) -> None:
    """`num_dropped_lines` of the entries add up."""
    write(path, run_info(), step_report(0))
    line = json.loads(path.read_text().splitlines()[-1])
    with path.open("a") as file:
        file.writelines(json.dumps(line | {"step": step, "num_dropped_lines": 3}) + "\n" for step in (1, 2))

    log = Log(path)

    assert steps(log) == [0, 1, 2]
    assert log.num_dropped_lines == 6


def test_entries_of_a_later_version_of_ours_are_passed_over(path: Path) -> None:
    """A type that is not known is no fault of the log; JSON that was never ours is counted."""
    write(path, run_info(), step_report(0))
    with path.open("a") as file:
        file.write('{"version":1,"type":"weather","run":"run-1"}\n{"hello":"world"}\n{"version":1,"type":"step"}\n')

    log = Log(path)

    assert steps(log) == [0]
    assert log.num_unknown_lines == 2


def test_progress_is_told_now_and_then(path: Path) -> None:
    """Who waits for a long log is told how far it has come."""
    entry = {"version": 1, "type": "event", "run": "r", "agent": "a", "kind": "k", "severity": "info", "step": 0}
    path.write_text((json.dumps(entry | {"message": ""}) + "\n") * 5_000)
    told: list[int] = []

    list(Log(path, told.append))

    assert told == [2_000, 4_000]


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"", "It is empty"),
        (b"\n\n", "It is empty"),
        (b"epoch,loss\n1,0.5\n", "None of its lines"),
        (b'{"epoch":1,"loss":0.5}\n', "None of its lines"),
        (b"\x00\xff\xfe garbage", "None of its lines"),
        (b'{"version":2,"type":"step"}\n', "update loopscope"),
        (b'{"version":"x","type":"step"}\n', "None of its lines"),
        (b'{"version":1,"type":"step","gradients":{"norms":[1]}}\n', "None of its lines"),
        (b"[1,2]\n", "None of its lines"),
    ],
)
def test_what_is_no_log_is_an_error_with_a_remedy(path: Path, content: bytes, remedy: str) -> None:
    """The error names the file, what is expected, and what seems to be wrong."""
    path.write_bytes(content)

    with pytest.raises(SettingError) as caught:
        list(Log(path))

    assert str(path) in str(caught.value)
    assert "attach(jsonl=PATH)" in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(("make", "remedy"), [(Path.mkdir, "directory"), (lambda _: None, "no such file")])
def test_what_is_not_there_is_an_error_at_once(path: Path, make: object, remedy: str) -> None:
    """A missing file and a directory are told before anything is read."""
    make(path)  # type: ignore[operator] # one of two functions

    with pytest.raises(SettingError, match=remedy):
        Log(path)


def test_records_that_only_the_agent_reads_are_not_expected(path: Path) -> None:
    """Events and runs are entries; self reports are never written."""
    write(path, run_info(), event(), self_report())

    assert [entry["type"] for entry in Log(path)] == ["run", "event"]
