"""The flight recorder: what is in the log after each way in which a run may go or end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders import activity_report, epoch_report, event, gradient_table, run_info, self_report, step_report
from tests.waiting import wait_until

from loopscope.errors import SettingError
from loopscope.records import SyncCount
from loopscope_exporters.jsonl import MAX_PENDING, JsonlExporter, create, read

SYNC = SyncCount(kind="item", site="train.py:120", count=1, seconds=0.0004)
COUNTERS = {
    "loopscope.device.syncs": {("train.py:120", "item"): 2},
    "loopscope.device.sync": {("train.py:120", "item"): 0.0008},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log goes."""
    return tmp_path / "run.jsonl"


def write(path: Path, *records, **options) -> None:
    """Run an exporter over the records, flushing after each."""
    exporter = JsonlExporter(path, **options)
    for record in records:
        exporter.export(record)
        exporter.flush()
    exporter.close()


def raw_lines(path: Path) -> list[dict]:
    """The objects of one file, as they stand."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def python(script: str, *arguments: object, **options) -> subprocess.Popen[str]:
    """Start a script of this project in a process of its own."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def run_python(script: str, *arguments: object) -> str:
    """Run a script to its end and return what it printed."""
    process = python(script, *arguments)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output


def test_records_come_back_in_order(path):
    """Run, steps, epochs and events are one line each; self reports are left out."""
    write(path, run_info(), step_report(0), event(), self_report(), epoch_report(), step_report(1))

    entries = list(read(path))

    assert [entry["type"] for entry in entries] == ["run", "step", "event", "epoch", "step"]
    assert [entry["step"] for entry in entries if entry["type"] == "step"] == [0, 1]
    assert all(isinstance(entry["step"], int) for entry in entries if entry["type"] == "step")


def test_a_directory_is_made_for_the_log(tmp_path):
    """Missing parents are created."""
    path = tmp_path / "a" / "b" / "run.jsonl"

    write(path, run_info())

    assert [entry["type"] for entry in read(path)] == ["run"]


def test_nothing_is_written_before_flush(path):
    """A record is in the file after flush, not before: whole lines only."""
    exporter = JsonlExporter(path)
    exporter.export(run_info())
    exporter.export(step_report(0))
    before = path.read_bytes()

    exporter.flush()

    assert before == b""
    assert len(raw_lines(path)) == 2
    exporter.close()


def test_many_records_without_flush_are_written(path):
    """What waits is bounded: export flushes by itself."""
    exporter = JsonlExporter(path)
    exporter.export(run_info())
    for step in range(1_000):
        exporter.export(step_report(step))
        assert len(exporter._pending) < MAX_PENDING
    exporter.close()

    assert [entry["step"] for entry in read(path) if entry["type"] == "step"] == list(range(1_000))
    assert exporter.num_dropped == 0


def test_names_are_written_when_they_change(path):
    """Tables of names stand where they are new, for each optimizer, and the reader carries them on."""
    other = gradient_table((1.0,), layers=("other",))
    reports = [
        step_report(0, optimizer="a"),
        step_report(1, optimizer="b", gradients=other),
        step_report(2, optimizer="a"),
        step_report(3, optimizer="b", gradients=other),
        step_report(4, optimizer="a", gradients=other),
        step_report(5, optimizer="a", gradients=None),
        step_report(6, optimizer="a", gradients=other),
    ]
    write(path, run_info(), *reports)

    has_names = ["names" in entry["gradients"] for entry in raw_lines(path)[1:] if entry["gradients"]]
    names = [entry["gradients"]["names"] for entry in list(read(path))[1:] if entry["gradients"]]

    assert has_names == [True, True, False, False, True, False]
    assert names == [list(report.gradients.names) for report in reports if report.gradients]


def test_a_second_run_appends(path):
    """An existing log is continued, with a run line and the names again."""
    write(path, run_info(run="first"), step_report(0))
    write(path, run_info(run="second"), step_report(0))

    assert [entry.get("run") for entry in read(path) if entry["type"] == "run"] == ["first", "second"]
    assert ["names" in entry["gradients"] for entry in raw_lines(path) if entry["type"] == "step"] == [True, True]


def test_a_line_that_was_cut_is_ended_before_the_next(path):
    """A former run that died in the middle of a line costs that line only, and the reader counts it."""
    write(path, run_info(), step_report(0), step_report(1))
    path.write_bytes(path.read_bytes()[:-30])
    write(path, run_info(), step_report(2))

    reader = read(path)

    assert [entry["step"] for entry in reader if entry["type"] == "step"] == [0, 2]
    assert reader.num_cut_lines == 1


def test_rotation_keeps_to_its_bound(path):
    """At most num_files files of max_bytes hold the latest steps, each with the run's line at its head."""
    steps = [step_report(step) for step in range(200)]
    write(path, run_info(), *steps, max_bytes=10_000, num_files=3)

    files = [path, path.with_name("run.jsonl.1"), path.with_name("run.jsonl.2")]
    assert sorted(path.parent.iterdir()) == files
    assert all(file.stat().st_size <= 10_000 for file in files)
    assert [raw_lines(file)[0]["type"] for file in files] == ["run"] * 3
    assert all("names" in raw_lines(file)[1]["gradients"] for file in files)
    kept = [entry["step"] for entry in read(path) if entry["type"] == "step"]
    assert kept == list(range(200 - len(kept), 200))
    assert len(kept) > 20


@pytest.mark.parametrize("num_files", [1, 2])
def test_fewer_files_than_before_leave_no_orphans(path, num_files):
    """Files beyond num_files, of a run that kept more, go at the next rotation."""
    steps = [step_report(step) for step in range(100)]
    write(path, run_info(), *steps, max_bytes=5_000, num_files=5)
    write(path, run_info(), *steps, max_bytes=5_000, num_files=num_files)

    assert len(list(path.parent.iterdir())) == num_files
    assert list(read(path))[-1]["step"] == 99


def test_a_line_longer_than_a_file_has_one_of_its_own(path):
    """A line above max_bytes is written whole, after the run's line, with nothing after it."""
    long = event("nonfinite_loss", message="x" * 20_000)
    write(path, run_info(), step_report(0), long, step_report(1), max_bytes=8_000, num_files=4)

    files = [path.with_name("run.jsonl.1"), path]

    assert [entry["type"] for entry in raw_lines(files[0])] == ["run", "event"]
    assert [entry["type"] for entry in raw_lines(files[1])] == ["run", "step"]


def test_reading_survives_a_rotation_underneath(path):
    """A reader that has begun sees all that was there when it began."""
    write(path, run_info(), *(step_report(step) for step in range(20)))
    reader = read(path)
    next(reader)

    write(path, *(step_report(step) for step in range(20, 60)), max_bytes=10_000, num_files=2)

    steps = [entry["step"] for entry in reader if entry["type"] == "step"]
    assert steps[:20] == list(range(20))


def test_a_newer_version_is_refused(path):
    """A log of a later format says which reader it needs."""
    path.write_text('{"version":2,"type":"run"}\n')

    with pytest.raises(ValueError, match="version 2"):
        list(read(path))


def test_a_log_that_is_not_there_is_said_at_once(path):
    """Reading raises FileNotFoundError, not an empty log."""
    with pytest.raises(FileNotFoundError, match="there is no log"):
        read(path)


def test_a_directory_is_no_log(tmp_path):
    """A path that is a directory is a SettingError with a remedy."""
    with pytest.raises(SettingError, match=r"jsonl='.*' cannot be used. Allowed: .*regular file"):
        JsonlExporter(tmp_path)


@pytest.mark.parametrize("name", ["/proc/run.jsonl", "/dev/full", "/dev/null/run.jsonl", "x" * 300])
def test_a_path_that_cannot_be_written_is_a_setting_error(name):
    """What the system refuses is told at attach, with the setting's name."""
    with pytest.raises(SettingError, match=r"jsonl='.*' cannot be used"):
        JsonlExporter(name)


def test_a_log_has_one_writer(path):
    """A second live writer is refused with a remedy; after close the log is free."""
    first = JsonlExporter(path)
    with pytest.raises(SettingError, match="Another live run"):
        JsonlExporter(path)
    first.close()

    JsonlExporter(path).close()


def test_the_lock_follows_the_rotation(path):
    """After a rotation the new current file is locked as well."""
    first = JsonlExporter(path, max_bytes=4_096, num_files=2)
    for step in range(50):
        first.export(step_report(step))
    first.flush()

    with pytest.raises(SettingError, match="Another live run"):
        JsonlExporter(path)
    first.close()


def test_close_writes_what_is_pending_and_twice_is_once(path):
    """Close flushes; records that come later are ignored."""
    exporter = JsonlExporter(path)
    exporter.export(run_info())

    exporter.close()
    exporter.export(step_report(0))
    exporter.flush()
    exporter.close()

    assert [entry["type"] for entry in read(path)] == ["run"]


def test_create_reads_the_settings(path):
    """`create` takes path, size and number of files from a Config's fields."""
    exporter = create({"jsonl": str(path), "jsonl_max_bytes": 4_096, "jsonl_files": 2, "port": None})
    exporter.export(run_info())
    exporter.close()

    assert exporter.name == "jsonl"
    assert [entry["type"] for entry in read(path)] == ["run"]


_KILLED = """
import sys
from loopscope_exporters.jsonl import JsonlExporter
from tests.builders import run_info, step_report

exporter = JsonlExporter(sys.argv[1])
exporter.export(run_info())
for step in range(10**9):
    exporter.export(step_report(step))
    exporter.flush()
    print(step, flush=True)
"""


def test_what_was_flushed_survives_kill_9(path):
    """After SIGKILL every flushed step is readable, at most one line is cut, and the log is free for the next run."""
    process = python(_KILLED, path)
    assert process.stdout is not None
    flushed = [int(process.stdout.readline()) for _ in range(200)][-1]
    process.send_signal(signal.SIGKILL)
    flushed = max([flushed, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
    process.wait(10)
    process.stdout.close()

    reader = read(path)
    steps = [entry["step"] for entry in reader if entry["type"] == "step"]

    assert steps == list(range(len(steps)))
    assert steps[-1] >= flushed
    assert reader.num_cut_lines <= 1
    JsonlExporter(path).close()


_FORKED = """
import os, sys
from loopscope_exporters.jsonl import JsonlExporter
from tests.builders import run_info, step_report

exporter = JsonlExporter(sys.argv[1])
exporter.export(run_info())
exporter.export(step_report(0))
child = os.fork()
if child == 0:
    exporter.export(step_report(1000))
    exporter.flush()
    exporter.close()
    os._exit(0)
os.waitpid(child, 0)
try:
    JsonlExporter(sys.argv[1])
except ValueError as fault:
    print("still locked" if "Another live run" in str(fault) else fault)
exporter.flush()
exporter.close()
"""


def test_a_forked_child_writes_nothing(path):
    """A child that flushes and closes its copy writes no line twice and leaves the parent its lock."""
    output = run_python(_FORKED, path)

    assert output == "still locked\n"
    assert [(entry["type"], entry.get("step")) for entry in read(path)] == [("run", None), ("step", 0)]


_ORPHANED = """
import os, sys
from loopscope_exporters.jsonl import JsonlExporter

exporter = JsonlExporter(sys.argv[1])
read_end, write_end = os.pipe()
child = os.fork()
if child == 0:
    os.close(write_end)
    os.read(read_end, 1)
    os._exit(0)
exporter.close()
JsonlExporter(sys.argv[1]).close()
os.close(write_end)
os.waitpid(child, 0)
"""


def test_close_frees_the_log_though_a_child_lives(path):
    """A forked child that still holds the descriptor does not keep the log locked after the parent's close."""
    run_python(_ORPHANED, path)


_FULL = """
import resource, sys
from loopscope_exporters.jsonl import JsonlExporter, MAX_PENDING
from tests.builders import TIME, run_info, step_report

exporter = JsonlExporter(sys.argv[1])
exporter.export(run_info())
exporter.export(step_report(0))
exporter.flush()
# As on a full disk, a write is cut in the middle and the next one fails.
resource.setrlimit(resource.RLIMIT_FSIZE, (exporter._file._num_bytes + 100, resource.RLIM_INFINITY))
num_faults = 0
for step in range(1, 3 * MAX_PENDING):
    try:
        exporter.export(step_report(step))
        exporter.flush()
    except OSError:
        num_faults += 1
assert len(exporter._pending) == MAX_PENDING
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
exporter.export(step_report(step + 1, time_unix_seconds=TIME + 10_000))
exporter.flush()
exporter.close()
print(num_faults, exporter.num_dropped, step + 1)
"""


def test_a_full_disk_costs_the_oldest_lines_and_says_how_many(path):
    """Faults are few, what waits is bounded, the cut line is healed, and the next line states what was dropped."""
    num_faults, num_dropped, last = (int(word) for word in run_python(_FULL, path).split())

    reader = read(path)
    steps = [entry for entry in reader if entry["type"] == "step"]

    assert [entry["step"] for entry in steps] == [0, *range(1 + num_dropped, last + 1)]
    assert [entry.get("num_dropped_lines") for entry in steps] == [None, num_dropped, *[None] * (len(steps) - 2)]
    assert num_dropped > 256
    assert 1 <= num_faults <= 8  # 77 s of record time: retries at 0, 1, 3, 7, 15, 31, 63 s
    assert reader.num_cut_lines == 1


def pour(exporter: JsonlExporter) -> None:
    """Write steps until something gives."""
    for step in range(1_000):
        exporter.export(step_report(step))
        exporter.flush()


@pytest.mark.skipif(os.geteuid() != 0, reason="a tmpfs can be mounted by root only")
def test_a_disk_without_space_is_survived(tmp_path):
    """On a real full file system flush raises ENOSPC; once there is space the log goes on and every line is whole."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mount.stderr.decode().strip()}")
    try:
        filler = disk / "filler"
        filler.write_bytes(bytes(40_000))
        exporter = JsonlExporter(disk / "run.jsonl")
        exporter.export(run_info())
        with pytest.raises(OSError, match="No space left"):
            pour(exporter)
        filler.unlink()
        exporter.close()
        steps = [entry["step"] for entry in read(disk / "run.jsonl") if entry["type"] == "step"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)

    assert steps == list(range(steps[-1] + 1))


def test_a_reader_may_follow_a_writer(path):
    """A log can be read while it is written: what was flushed is there."""
    exporter = JsonlExporter(path)
    exporter.export(run_info())
    exporter.export(step_report(0))
    exporter.flush()

    entries = wait_until(lambda: list(read(path)))

    assert len(entries) == 2
    exporter.close()


def test_the_documented_lines_are_what_is_written(path):
    """Every example in docs/jsonl.md has exactly the keys of a line of its type."""
    page = Path(__file__).parents[2] / "docs" / "jsonl.md"
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", page.read_text(), re.DOTALL)]
    write(
        path,
        run_info(),
        step_report(0, syncs=(SYNC,)),
        step_report(1),
        event(),
        epoch_report(),
        activity_report(COUNTERS),
    )

    written = raw_lines(path)

    assert [list(example) for example in examples] == [list(entry) for entry in written]
    nested = [list(entry["gradients"]) for entry in examples if "gradients" in entry]
    assert nested == [list(entry["gradients"]) for entry in written if "gradients" in entry]
    rows = [[list(row) for name in ("syncs", "counters") for row in entry.get(name, ())] for entry in examples]
    assert rows == [[list(row) for name in ("syncs", "counters") for row in entry.get(name, ())] for entry in written]
    assert examples[-1]["counters"] == written[-1]["counters"]
    assert examples[1]["syncs"] == written[1]["syncs"]
