"""Laws of what fails around loopscope: a full disk, a taken port, scrapes at detach, a worker that dies."""

from __future__ import annotations

import errno
import os
import socket
import threading

import pytest
import torch
from tests.loops import FullRun, watch, weights
from tests.waiting import await_workers, wait_until
from tests.web import request

from loopscope.pipeline import Pipeline
from loopscope_exporters import rotating


@pytest.fixture(scope="module")
def bare_weights() -> torch.Tensor:
    """The weights that two epochs lead to, without an agent."""
    return FullRun().train()


def test_full_disk(bare_weights, monkeypatch, tmp_path):
    """A disk that is full is a fault of the log alone; what was kept is written when there is room again."""
    run, write, log = FullRun(), os.write, tmp_path / "log"

    def write_to_full_disk(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with watch(run.model, run.optimizer, strict=False, jsonl=str(log)) as watched:
        monkeypatch.setattr(rotating.os, "write", write_to_full_disk)
        run.epoch()
        assert len(watched.reports) == 6
        assert watched.agent.internal_errors["exporter.jsonl"] >= 1
        monkeypatch.setattr(rotating.os, "write", write)
        run.epoch()

    assert torch.equal(weights(run.model), bare_weights)
    assert log.read_text().count('"type":"step"') == 12


def test_taken_port(bare_weights):
    """A port that is taken gives way to another, and nothing is wrong with the run."""
    run = FullRun()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with watch(run.model, run.optimizer, port=port) as watched:
            assert watched.agent.url not in {None, f"http://127.0.0.1:{port}"}
            run.train(watched.agent)
            assert request(f"{watched.agent.url}/healthz").status == 200

    assert torch.equal(weights(run.model), bare_weights)
    assert watched.agent.internal_errors == {}


def test_scrapes_during_detach(bare_weights):
    """Scrapes under way at detach are answered or cut off; neither they nor the run fail of ours."""
    run, is_over, statuses = FullRun(), threading.Event(), []

    def scrape(url: str) -> None:
        while not is_over.is_set():
            try:
                statuses.append(request(f"{url}/metrics").status)
            except OSError:
                return

    with watch(run.model, run.optimizer, port=0) as watched:
        threads = [threading.Thread(target=scrape, args=(watched.agent.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        run.train(watched.agent)
    is_over.set()
    for thread in threads:
        thread.join(10)

    assert torch.equal(weights(run.model), bare_weights)
    assert set(statuses) == {200}
    assert watched.agent.internal_errors == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_worker_that_dies(bare_weights, monkeypatch):
    """A worker that something ends from outside is counted and replaced; the steps after it are reported."""
    run = FullRun()
    with watch(run.model, run.optimizer, strict=False) as watched:
        with monkeypatch.context() as planted:
            planted.setattr(Pipeline, "tick", lambda self: (_ for _ in ()).throw(SystemExit()))
            run.epoch()
            watched.agent.flush(5)
            wait_until(lambda: watched.agent.internal_errors.get("worker"))
        run.epoch()

        assert watched.reports[-1].step == 10
    await_workers()
    assert torch.equal(weights(run.model), bare_weights)
