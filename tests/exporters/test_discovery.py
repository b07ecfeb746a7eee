"""Laws of discovery: one Prometheus finds every run of a host, while it lasts and no longer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest
from tests.builders import run_info
from tests.loops import network, watch
from torch.optim import SGD

from loopscope.errors import SettingError
from loopscope_exporters.discovery import DiscoveryExporter

HOST = "box.example"


@pytest.fixture
def exporter(server, tmp_path):
    """An exporter into a directory of its own."""
    exporter = DiscoveryExporter(server, tmp_path)
    yield exporter
    exporter.close()


def _files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _info(**changes):
    return run_info(host=HOST, pid=os.getpid(), **changes)


def test_file_has_what_prometheus_reads(server, exporter, tmp_path: Path) -> None:
    """A list of one group, its target the server, its labels meta labels and the scheme: no series gets one more."""
    exporter.export(_info(rank=3))

    (path,) = tmp_path.iterdir()
    (group,) = json.loads(path.read_text())
    assert group["targets"] == [f"127.0.0.1:{server.port}"]
    assert group["labels"]["__scheme__"] == "http"
    assert group["labels"]["__meta_loopscope_rank"] == "3"
    assert all(name.startswith("__") for name in group["labels"])


def test_file_goes_with_the_agent(exporter, tmp_path: Path) -> None:
    """At close, and a second close does nothing."""
    exporter.export(_info())

    exporter.close()
    exporter.close()

    assert _files(tmp_path) == []


def test_agents_have_a_file_each(server, exporter, tmp_path: Path) -> None:
    """The end of one does not take the others' away; names that are no file names become some."""
    other = DiscoveryExporter(server, tmp_path)
    exporter.export(_info())
    other.export(_info(agent="../critic 1"))

    exporter.close()

    (name,) = _files(tmp_path)
    assert name.endswith("critic_1.json")
    other.close()


def test_files_of_the_dead_are_removed(server, exporter, tmp_path: Path) -> None:
    """Of this host, and of a process that was given a dead one's number; those of others stay."""
    gone = next(pid for pid in range(400_000, 500_000) if not psutil.pid_exists(pid))
    start = round(psutil.Process().create_time())
    kept = [
        f"loopscope-other.example-{gone}-1-model.json",
        f"loopscope-{HOST}-{os.getpid()}-{start}-model-2.json",
        "something.json",
    ]
    dead = [f"loopscope-{HOST}-{gone}-1-model.json", f"loopscope-{HOST}-{os.getpid()}-{start - 500}-model.json"]
    for name in (*kept, *dead):
        (tmp_path / name).write_text("[]")

    exporter.export(_info())

    assert set(_files(tmp_path)) == {*kept, f"loopscope-{HOST}-{os.getpid()}-{start}-model.json"}


def test_forked_child_leaves_it(exporter, tmp_path: Path) -> None:
    """The file is the parent's."""
    exporter.export(_info())
    pid = os.fork()
    if pid == 0:
        exporter.close_in_child()
        exporter.close()
        os._exit(0)
    os.waitpid(pid, 0)

    assert len(_files(tmp_path)) == 1


def test_agent_registers_from_attach_to_detach(tmp_path: Path) -> None:
    """As the setting says; the directory is made."""
    model, directory = network(), tmp_path / "sd"
    with watch(model, SGD(model.parameters(), 0.1), port=0, discovery_dir=directory) as watched:
        (path,) = directory.iterdir()
        (group,) = json.loads(path.read_text())
        assert watched.agent.url == f"http://{group['targets'][0]}"

    assert _files(directory) == []


def test_directory_that_cannot_be_is_an_error_at_attach(tmp_path: Path) -> None:
    """A file stands in its place."""
    (tmp_path / "file").write_text("")
    model = network()

    with pytest.raises(SettingError, match="discovery_dir"):
        watch(model, SGD(model.parameters(), 0.1), port=0, discovery_dir=tmp_path / "file").__enter__()
