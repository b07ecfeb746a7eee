"""Laws of a log that ends badly: what is in it after a kill, a fork and a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from tests.builders import run_info, step_report

from loopscope_exporters.jsonl import JsonlExporter, read


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
    assert run_python(_ORPHANED, path) == ""


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
