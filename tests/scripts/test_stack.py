"""`make stack`: the alert that comes is printed, and nothing of what was started is left, however it ends."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.alertmanager_server import needs_alertmanager
from tests.python_process import ROOT, interrupt, start_python

SCRIPT = ROOT / "scripts" / "stack.py"


def is_listening(port: int) -> bool:
    """Whether anybody answers on a port of the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ports(text: str) -> list[int]:
    """Return the ports of what has told that it is ready."""
    return [int(port) for port in re.findall(r"^\w+ +http://127\.0\.0\.1:(\d+)$", text, re.MULTILINE)]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Folders that are left behind would be in here."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "left"))
    (tmp_path / "left").mkdir()
    return tmp_path / "left"


@needs_alertmanager
def test_alert_is_printed_and_all_is_stopped(own_folder):
    """The NaN arrives with its layer, in words; then no port answers and no folder is left."""
    with start_python(str(SCRIPT)) as process:
        text, _ = process.communicate(timeout=110)

    assert process.returncode == 0, text
    assert "critical: LoopscopeNonfiniteGradient (firing since " in text
    assert re.search(r"^  layer    4$", text, re.MULTILINE)
    (runbook,) = set(re.findall(r"docs/runbooks/loopscopenonfinitegradient\.md", text))
    assert (ROOT / runbook).exists()
    assert len(ports(text)) == 3
    assert [port for port in ports(text) if is_listening(port)] == []
    assert list(own_folder.iterdir()) == []


@needs_alertmanager
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_all_is_stopped_on_a_signal(own_folder, number, status):
    """Ctrl-C and a plain kill leave nothing behind."""
    with start_python(str(SCRIPT), "--anomaly", "stall") as process:
        assert process.stdout is not None
        text = ""
        while "Waiting for" not in text:
            line = process.stdout.readline()
            assert line, text
            text += line
        assert len(ports(text)) == 3
        process.send_signal(number) if number != signal.SIGINT else interrupt(process)
        text += process.communicate(timeout=30)[0]

    assert process.returncode == status, text
    assert "Traceback" not in text
    assert [port for port in ports(text) if is_listening(port)] == []
    assert list(own_folder.iterdir()) == []


@needs_alertmanager
def test_no_alert_in_time_is_a_failure(own_folder):
    """Where the deadline passes it says so, with the ends of the logs, and ends with status 1."""
    with start_python(str(SCRIPT), "--deadline", "0.2") as process:
        text, _ = process.communicate(timeout=60)

    assert process.returncode == 1, text
    assert "did not become ready" in text or "came in time" in text
    assert [port for port in ports(text) if is_listening(port)] == []
    assert list(own_folder.iterdir()) == []


@needs_alertmanager
def test_a_training_that_ends_is_a_failure(tmp_path, own_folder):
    """Where the training ends before anything could come its last words are told."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(SCRIPT, scripts)
    (scripts / "planted.py").write_text("raise SystemExit('no data here')")
    with start_python(str(scripts / "stack.py")) as process:
        text, _ = process.communicate(timeout=60)

    assert process.returncode == 1, text
    assert "stack: training ended with status 1:\nno data here" in text
    assert list(own_folder.iterdir()) == []


def test_missing_programs_are_named(tmp_path):
    """Without Prometheus it says what to install."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr == (
        "stack: prometheus not on PATH. Install Debian's packages: apt-get install prometheus prometheus-alertmanager "
        "(as root).\n"
    )
    assert list(Path(tmp_path).iterdir()) == [tmp_path / "left"]
