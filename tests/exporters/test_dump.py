"""Laws of the dump: at the first cause of an incident the last steps are in a file that a reader takes."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import pytest
from tests.builders import event, run_info, step_report
from tests.loops import batch, network, watch
from torch.optim import SGD

from loopscope import attach
from loopscope.errors import SettingError
from loopscope_exporters.dump import MAX_DUMPS, DumpExporter
from loopscope_exporters.jsonl import read


def first_cause(step: int, **changes):
    """Return an event that begins an incident."""
    return event(step=step, **{"first_cause": True} | changes)


def feed(exporter: DumpExporter, *records) -> None:
    """Export the records."""
    for record in records:
        exporter.export(record)


def files(directory: Path) -> list[str]:
    """Return what is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def test_the_last_steps_are_in_the_file(tmp_path):
    """The run, the last K steps with all their parameters, and the event, as the log would have them."""
    exporter = DumpExporter(tmp_path, 3)
    feed(exporter, run_info(), *map(step_report, range(10)), first_cause(9))

    (name,) = files(tmp_path)
    entries = list(read(tmp_path / name))
    assert name == "run-1-model-step9-nonfinite_gradient.jsonl"
    assert [entry["type"] for entry in entries] == ["run", "step", "step", "step", "event"]
    assert [entry["step"] for entry in entries[1:4]] == [7, 8, 9]
    assert all(len(entry["gradients"]["norms"]) == 4 for entry in entries[1:4])
    assert entries[-1]["first_cause"] is True


def test_an_incident_is_one_file(tmp_path):
    """What follows from a first cause, and what is for information, writes nothing."""
    exporter = DumpExporter(tmp_path, 3)
    feed(exporter, run_info(), step_report(), first_cause(0, severity="info"), event("nonfinite_loss"))
    assert files(tmp_path) == []
    feed(exporter, first_cause(0), event("nonfinite_loss"), step_report(1), event("update_ratio", "warning", 1))

    assert len(files(tmp_path)) == 1


def test_files_are_bounded(tmp_path):
    """A run that never gets well does not fill the disk."""
    exporter = DumpExporter(tmp_path, 2)
    feed(exporter, run_info())
    for step in range(40):
        feed(exporter, step_report(step), first_cause(step))

    assert len(files(tmp_path)) == MAX_DUMPS == exporter.num_dumps


def test_optimizers_and_ranks_have_files_of_their_own(tmp_path):
    """Two incidents on one step, of two optimizers, do not overwrite each other; names are safe."""
    exporter = DumpExporter(tmp_path, 2)
    feed(exporter, run_info(run="a/../b c"), *(first_cause(0, optimizer=name, rank=1) for name in ("g", "../c")))

    assert files(tmp_path) == [
        "a_.._b_c-model-rank1-.._c-step0-nonfinite_gradient.jsonl",
        "a_.._b_c-model-rank1-g-step0-nonfinite_gradient.jsonl",
    ]


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    """A full disk is an error of this export, with no half file; the next incident is written."""
    exporter = DumpExporter(tmp_path, 2)
    feed(exporter, run_info(), step_report(0))

    def fail(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            exporter.export(first_cause(0))
        assert files(tmp_path) == []
    feed(exporter, step_report(1), first_cause(1))

    assert len(files(tmp_path)) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_a_counted_fault(tmp_path):
    """In the agent the fault is counted under the exporter, and training goes on."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    directory = tmp_path / "dumps"
    with watch(model, optimizer, dump_dir=directory, strict=False, run="r") as watched:
        (directory / "r-model-step0-nonfinite_loss.part").symlink_to("/dev/full")
        (model(batch()).square().mean() * math.nan).backward()
        optimizer.step()

        assert watched.reports
        assert watched.agent.internal_errors == {"exporter.dump": 1}


def test_a_forked_child_writes_nothing(tmp_path):
    """The parent's incidents are the parent's to write."""
    exporter = DumpExporter(tmp_path, 2)
    feed(exporter, run_info(), step_report(0))
    exporter._pid = os.getpid() + 1
    feed(exporter, first_cause(0))

    assert files(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_directory_that_cannot_be_is_told_at_attach(tmp_path, place):
    """Where nothing could be written the error says so at once, with a remedy."""
    (tmp_path / "file").write_text("")
    model = network()

    with pytest.raises(SettingError, match=r"dump_dir=.* cannot be used.*Name another one"):
        attach(model, SGD(model.parameters(), 0.1), port=None, dump_dir=tmp_path / place)


def test_a_live_loop_is_dumped(tmp_path):
    """A NaN loss leaves one file, whose last step is the one it was on."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    with watch(model, optimizer, dump_dir=tmp_path / "new", dump_steps=5, run="r") as watched:
        for step in range(20):
            (model(batch()).square().mean() * (math.nan if step == 12 else 1.0)).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert len(watched.reports) == 20

    assert files(tmp_path / "new") == ["r-model-step12-nonfinite_loss.jsonl"]
    entries = list(read(tmp_path / "new" / "r-model-step12-nonfinite_loss.jsonl"))
    assert [entry["step"] for entry in entries if entry["type"] == "step"] == [8, 9, 10, 11, 12]
