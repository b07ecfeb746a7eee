"""Laws of the end: close is quick whatever the collector does, and processes fork and end as they do without us."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from tests import builders
from tests.otlp_exporting import exporting
from tests.otlp_receiver import black_hole, receive
from tests.python_process import ROOT, run_python, start_python
from tests.waiting import wait_until

MAX_OWN_SECONDS = 1.2
"""Of the two seconds that the end of a process may take; interpreter and torch need the rest."""
SCRIPT = f"""
import atexit, os, sys, time
atexit.register(lambda: print("left", time.time(), flush=True))  # runs after what attach registers
sys.path.insert(0, {str(ROOT)!r})
import torch
from tests.loops import batch, network, samples
from torch.utils.data import DataLoader
import loopscope

model = network()
optimizer = torch.optim.SGD(model.parameters(), 0.01)
agent = loopscope.attach(model, optimizer, port=None, strict=False, exporters=("otlp",))

def step(inputs):
    optimizer.zero_grad()
    model(inputs).square().mean().backward()
    optimizer.step()
"""
LOOP = """
for index in range(50):
    step(batch(index))
print("end", time.time(), flush=True)
"""
FORKS = """
start = time.monotonic()
while time.monotonic() - start < 1.5:
    for inputs in DataLoader(samples(40), batch_size=4, num_workers=2, multiprocessing_context="fork"):
        step(inputs)
    child = os.fork()
    if child == 0:
        step(batch())
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert agent.flush()
print("faults", agent.internal_errors, "end", time.time(), flush=True)
"""


def refusing() -> str:
    """Return the URL of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def hole():
    """The URL of a collector that accepts and never answers."""
    with black_hole() as endpoint:
        yield endpoint


def run(tmp_path, monkeypatch, text, endpoint, protocol):
    """Run a script that exports to `endpoint`; return what it printed."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT + text)
    variables = {"ENDPOINT": endpoint, "PROTOCOL": protocol}
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    with start_python("-W", "error", str(script)) as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    return printed


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("kind", ["black hole", "refusing"])
def test_a_process_ends_in_time(kind, protocol, hole, tmp_path, monkeypatch):
    """With a collector that is dead or never answers, a process is gone within two seconds of its own end."""
    printed = run(tmp_path, monkeypatch, LOOP, hole if kind == "black hole" else refusing(), protocol)
    times = dict(line.split(maxsplit=1) for line in printed.splitlines() if line.startswith(("end ", "left ")))

    assert float(times["left"]) - float(times["end"]) < MAX_OWN_SECONDS
    assert "Traceback" not in printed
    assert printed.count("does not take") <= 3  # one line a signal


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_end_of_a_process_delivers(protocol, tmp_path, monkeypatch):
    """Without detach the end of a process sends the last values: all steps are counted."""
    with receive(protocol) as receiver:
        run(tmp_path, monkeypatch, LOOP, receiver.endpoint, protocol)
        wait_until(lambda: receiver.values("loopscope.steps") == {(): 50.0})

        assert {span.name for span in receiver.spans()} >= {"epoch"}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("kind", ["collector", "black hole"])
def test_forks(kind, protocol, hole, tmp_path, monkeypatch):
    """Loaders that fork, and children that exit, do so while requests are under way, and no fault comes of it."""
    with receive(protocol) as receiver:
        endpoint = receiver.endpoint if kind == "collector" else hole
        printed = run(tmp_path, monkeypatch, FORKS, endpoint, protocol)

        assert "faults {}" in printed
        assert "Traceback" not in printed
        pids = {
            pair.value.int_value
            for message in receiver.taken("metrics")
            for pair in message.resource_metrics[0].resource.attributes
            if pair.key == "process.pid"
        }
        assert len(pids) == (kind == "collector")  # no child has sent anything


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_close_is_quick_and_ends_the_threads(protocol):
    """Close takes half a second in all, and after it no thread is left, though each waits for an answer."""
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        with exporting(f"http://127.0.0.1:{silent.getsockname()[1]}", protocol) as exporter:
            threads = set(threading.enumerate()) - before
            exporter.export(builders.step_report(1, events=(builders.event(step=1),)))
            exporter.export(builders.event(step=1))
            waiting = [silent.accept()[0] for _ in threads]
            begin = time.monotonic()
            exporter.close()
            seconds = time.monotonic() - begin
            exporter.close()
        for connection in waiting:
            connection.close()

    assert len(threads) == 3
    assert seconds < 1.5  # of which one is for a machine that is busy
    wait_until(lambda: not any(thread.is_alive() for thread in threads))


def test_close_before_the_first_record():
    """An exporter that never had a record closes without a word to anybody."""
    script = """
import os
from loopscope_exporters.otlp import create
exporter = create({})
exporter.close()
exporter.close()
exporter.flush()
import threading
assert threading.active_count() == 1
"""
    assert run_python("-W", "error", "-c", script).stdout == ""
