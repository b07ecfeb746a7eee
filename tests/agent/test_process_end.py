"""Laws of the end: however a process ends, the weights are those of the bare run and it is gone within two seconds."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.python_process import ROOT, start_python

from loopscope_exporters.jsonl import read

MAX_OWN_SECONDS = 1.2
"""Of the two seconds the interpreter and torch take the rest, on a slow machine: that is the bare run's time too."""
SCRIPT = """
import hashlib, signal, sys, threading, time
sys.path.insert(0, {root!r})
import torch
from tests.loops import batch, network, weights
import atexit
import loopscope

atexit.register(lambda: print("left", time.time(), flush=True))  # runs after what attach registers
torch.set_num_threads(1)
mode, num_steps, log = sys.argv[1], int(sys.argv[2]), sys.argv[3]

class Hanging:
    name = "hanging"
    is_armed = False
    def _hang(self, verb):
        while self.is_armed and verb in mode:
            time.sleep(60)
    def export(self, record): self._hang("export")
    def flush(self): self._hang("flush")
    def close(self): self._hang("close")

def attach(model, optimizer):
    if "bare" in mode:
        return None
    jsonl = dict(jsonl=log) if log else {{}}
    exporters = (Hanging(),) if "hang" in mode else ()
    return loopscope.attach(model, optimizer, port=0, strict=False, exporters=exporters, **jsonl)

pairs = []
for seed in range(3 if "three" in mode else 1):
    model = network(seed)
    pairs.append((model, torch.optim.SGD(model.parameters(), 0.01)))

def leave(*_):
    raise SystemExit(3)
if "handler" in mode:
    signal.signal(signal.SIGTERM, leave)

agents = [attach(*pair) for pair in pairs]
Hanging.is_armed = True  # only now: the first record is exported at attach, on this thread

try:
    step = 0
    while step < num_steps or num_steps < 0:
        for model, optimizer in pairs:
            optimizer.zero_grad()
            model(batch(step % 100)).square().mean().backward()
            optimizer.step()
        step += 1
        if step == 20:
            for agent in agents:
                if agent is not None and "hang" not in mode:
                    agent.flush(5)
            print("under way", flush=True)
        if mode == "crash" and step == 30:
            raise RuntimeError("the user's")
    digest = hashlib.sha256(b"".join(weights(model).numpy().tobytes() for model, _ in pairs)).hexdigest()
    print("digest", digest, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
finally:
    print("end", time.time(), flush=True)
"""


class Ended(NamedTuple):
    """A process that has ended."""

    code: int
    seconds: float
    """From its own end to that of its exit handlers, ours among them; to the process's where it had none."""
    lines: dict[str, str]
    text: str


def run(tmp_path: Path, mode: str, *, num_steps: int = 60, number: int | None = None, log: str = "") -> Ended:
    """Run the script; send the signal `number` when it is under way."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(root=str(ROOT)))
    lines = []
    sent = 0.0
    with start_python(str(script), mode, str(num_steps), log) as process:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("under way") and number is not None:
                sent = time.time()
                process.send_signal(number)
        code = process.wait(60)
        ended = time.time()
    parts = dict(line.split(maxsplit=1) for line in lines if line.startswith(("digest ", "end ", "left ")))
    seconds = float(parts.get("left", ended)) - float(parts.get("end", sent))
    return Ended(code, seconds, parts, "".join(lines))


@pytest.fixture(scope="module")
def digests(tmp_path_factory) -> dict[bool, str]:
    """Weights of the bare run, of one model and of three."""
    path = tmp_path_factory.mktemp("bare")
    return {is_three: run(path, "bare three" if is_three else "bare").lines["digest"] for is_three in (False, True)}


@pytest.mark.parametrize("mode", ["plain", "hang flush", "hang close", "three hang export", "three hang close"])
def test_process_ends_in_time(tmp_path, digests, mode):
    """A process is gone within two seconds of its own end, also where exporters hang for ever, or several do."""
    ended = run(tmp_path, mode, log=str(tmp_path / "log-{agent}"))

    assert ended.code == 0, ended.text
    assert ended.lines["digest"] == digests["three" in mode]
    assert ended.seconds < MAX_OWN_SECONDS


@pytest.mark.parametrize(("mode", "code"), [("plain", -signal.SIGTERM), ("handler", 3), ("handler hang export", 3)])
def test_sigterm(tmp_path, mode, code):
    """SIGTERM ends the loop as it does without us, at once or by the user's handler; the code is the same."""
    ended = run(tmp_path, mode, num_steps=-1, number=signal.SIGTERM, log=str(tmp_path / "log"))

    assert ended.code == code, ended.text
    assert ended.seconds < MAX_OWN_SECONDS


@pytest.mark.parametrize("mode", ["plain", "hang flush"])
def test_keyboard_interrupt(tmp_path, mode):
    """Ctrl-C reaches the user's own `except KeyboardInterrupt`, and what was exported by then is in the log."""
    ended = run(tmp_path, mode, num_steps=-1, number=signal.SIGINT, log=str(tmp_path / "log"))

    assert "interrupted" in ended.text
    assert ended.code == 0, ended.text
    assert ended.seconds < MAX_OWN_SECONDS


def test_exception_of_the_user_ends_the_process_as_ever(tmp_path):
    """The user's own exception ends the process with its traceback; the log has every step."""
    ended = run(tmp_path, "crash", log=str(tmp_path / "log"))

    assert ended.code == 1
    assert "RuntimeError: the user's" in ended.text
    assert [entry["step"] for entry in read(tmp_path / "log") if entry["type"] == "step"] == list(range(30))


def test_log_is_whole_after_a_normal_end(tmp_path):
    """Without detach the end of the interpreter flushes: every step is in the log."""
    run(tmp_path, "plain", log=str(tmp_path / "log"))

    assert [entry["step"] for entry in read(tmp_path / "log") if entry["type"] == "step"] == list(range(60))


def test_log_after_a_kill_has_what_was_flushed(tmp_path):
    """After kill -9 the log can be read, and has every step up to the last flush, in order, with its gradients."""
    ended = run(tmp_path, "plain", num_steps=-1, number=signal.SIGKILL, log=str(tmp_path / "log"))
    steps = [entry for entry in read(tmp_path / "log") if entry["type"] == "step"]

    assert ended.code == -signal.SIGKILL
    assert [entry["step"] for entry in steps][:20] == list(range(20))
    assert [entry["step"] for entry in steps] == list(range(len(steps)))
    assert all(len(entry["gradients"]["norms"]) == 4 for entry in steps)
    assert json.dumps(steps[0]["gradients"]["names"]) == '["0.weight", "0.bias", "2.weight", "2.bias"]'


def test_children_end_as_ever(tmp_path):
    """A forked child that exits does not run our end, and leaves the parent's log and page alone."""
    script = tmp_path / "fork.py"
    script.write_text(
        f"""
import os, sys, time, urllib.request
sys.path.insert(0, {str(ROOT)!r})
import torch
from tests.loops import batch, network
import loopscope
model = network()
optimizer = torch.optim.SGD(model.parameters(), 0.01)
agent = loopscope.attach(model, optimizer, port=0, jsonl={str(tmp_path / "log")!r}, strict=False)
def step():
    model(batch()).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
step()
if os.fork() == 0:
    step()
    sys.exit(0)
os.wait()
step()
assert agent.flush()
assert urllib.request.urlopen(agent.url + "/healthz").status == 200
"""
    )
    with start_python(str(script)) as process:
        text, _ = process.communicate(timeout=60)

    assert process.returncode == 0, text
    assert [entry["step"] for entry in read(tmp_path / "log") if entry["type"] == "step"] == [0, 1]
