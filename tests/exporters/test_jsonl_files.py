"""Laws of the flight recorder's files: where they may be, who writes them, how they rotate and how they are closed."""

from __future__ import annotations

import pytest
from tests.builders import event, run_info, step_report
from tests.jsonl_logs import raw_lines, write

from loopscope.errors import SettingError
from loopscope_exporters.jsonl import JsonlExporter, create, read


def test_a_directory_is_made_for_the_log(tmp_path):
    """Missing parents are created."""
    path = tmp_path / "a" / "b" / "run.jsonl"

    write(path, run_info())

    assert [entry["type"] for entry in read(path)] == ["run"]


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
