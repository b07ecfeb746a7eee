"""`make stack`: Prometheus and Alertmanager with our rules, a training loop that goes wrong, and the alert of it.

Everything listens on loopback only, on free ports, and is stopped at the end, after Ctrl-C and after a failure as well.
Exit status 0 where the alert came, 1 where it did not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

from loopscope_dashboards.alertmanager import alertmanager_configuration
from loopscope_dashboards.rules import rule_files
from loopscope_dashboards.settings import RuleSettings

ROOT = Path(__file__).resolve().parents[1]
ALERTS = {"nan": "LoopscopeNonfiniteGradient", "syncs": "LoopscopeDeviceSyncStorm", "stall": "LoopscopeRunStalled"}
SHORT = RuleSettings(
    rate_window_seconds=10, recent_seconds=10, keep_firing_seconds=2, line_seconds=3, stalled_seconds=5
)
"""The rules as they are, with windows for scrapes a second apart."""
MISSING = "{} not on PATH. Install Debian's packages: apt-get install prometheus prometheus-alertmanager (as root)."
INTERRUPTED = 130


class Failure(Exception):  # noqa: N818 - it ends the script with a message
    """What to tell before ending with status 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stack until the alert has come; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--anomaly", choices=tuple(ALERTS), default="nan", help="what is planted (default: %(default)s)"
    )
    parser.add_argument("--deadline", type=float, default=90.0, help="seconds to wait for the alert (%(default)s)")
    arguments = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it otherwise
    try:
        _run(arguments.anomaly, arguments.deadline)
    except Failure as failure:
        print(f"stack: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stack: interrupted; everything is stopped.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _run(anomaly: str, deadline_seconds: float) -> None:
    deadline = time.monotonic() + deadline_seconds
    prometheus, alertmanager = _program("prometheus"), _program("prometheus-alertmanager", "alertmanager")
    received: queue.Queue[dict[str, Any]] = queue.Queue()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loopscope-stack-")))
        webhook = stack.enter_context(_receiver(received))
        ports = _free_ports(3)
        targets = [f"127.0.0.1:{port}" for port in ports]
        _configure(folder, targets, webhook)
        commands = (
            (
                "training",
                [sys.executable, str(ROOT / "scripts" / "planted.py"), anomaly, f"--port={ports[0]}"],
                "/healthz",
            ),
            ("alertmanager", [alertmanager, *_alertmanager_flags(folder, targets[1])], "/-/ready"),
            ("prometheus", [prometheus, *_prometheus_flags(folder, targets[2])], "/-/ready"),
        )
        processes: dict[str, subprocess.Popen[bytes]] = {}
        for (name, command, path), target in zip(commands, targets, strict=True):
            processes[name] = stack.enter_context(_process(name, command, folder))
            _wait_until_ready(name, f"http://{target}{path}", processes, folder, deadline)
            print(f"{name:<13} http://{target}", flush=True)
        print(f"\nTraining; {anomaly!r} is planted after 300 steps. Waiting for {ALERTS[anomaly]} ...", flush=True)
        _wait_for_alert(ALERTS[anomaly], received, processes, folder, deadline)
    print("\nEverything is stopped.", flush=True)


def _program(*names: str) -> str:
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise Failure(MISSING.format(" or ".join(names)))


def _configure(folder: Path, targets: Sequence[str], webhook: str) -> None:
    """Write the rules and both configurations: JSON is YAML."""
    training, alertmanager, _ = targets
    (folder / "rules.yaml").write_text(rule_files(SHORT)["rules.yaml"])
    routes = alertmanager_configuration(webhook, group_wait_seconds=0.5, group_interval_seconds=1)
    (folder / "alertmanager.yml").write_text(json.dumps(routes))
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [{"job_name": "training", "static_configs": [{"targets": [training]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))


def _prometheus_flags(folder: Path, address: str) -> tuple[str, ...]:
    return (
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
    )


def _alertmanager_flags(folder: Path, address: str) -> tuple[str, ...]:
    return (
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",  # no gossip
    )


@contextlib.contextmanager
def _process(name: str, command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a session of its own, so that Ctrl-C reaches us alone, and stop it at the end."""
    # Settings of the caller's own runs must not reach this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LOOPSCOPE_")}
    environment["TMPDIR"] = str(folder)  # what a process leaves behind goes with the folder
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _receiver(received: queue.Queue[dict[str, Any]]) -> Iterator[str]:
    """Yield the URL of a webhook that puts each alert into the queue."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            for alert in json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"]:
                received.put(alert)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def _wait_until_ready(
    name: str, url: str, processes: dict[str, subprocess.Popen[bytes]], folder: Path, deadline: float
) -> None:
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        _check(processes, folder)
        if time.monotonic() > deadline:
            raise Failure(f"{name} did not become ready:\n{_tail(folder, name)}")
        time.sleep(0.05)


def _wait_for_alert(
    name: str,
    received: queue.Queue[dict[str, Any]],
    processes: dict[str, subprocess.Popen[bytes]],
    folder: Path,
    deadline: float,
) -> None:
    """Print alerts as they come, until that of this name has come."""
    begin = time.monotonic()
    while time.monotonic() < deadline:
        try:
            alert = received.get(timeout=0.2)
        except queue.Empty:
            _check(processes, folder)
            continue
        print(_text(alert), flush=True)
        if alert["labels"]["alertname"] == name:
            print(f"\nIt came after {time.monotonic() - begin:.0f} s.", flush=True)
            return
    logs = "".join(f"\n{process}:\n{_tail(folder, process)}" for process in processes)
    raise Failure(f"no {name} came in time. The ends of the logs:{logs}")


def _text(alert: dict[str, Any]) -> str:
    labels, annotations = alert["labels"], alert["annotations"]
    lines = [f"\n{labels['severity']}: {labels['alertname']} ({alert['status']} since {alert['startsAt'][11:19]} UTC)"]
    lines += textwrap.wrap(annotations["summary"], 100, initial_indent="  ", subsequent_indent="  ")
    lines += textwrap.wrap(annotations["description"], 100, initial_indent="  ", subsequent_indent="  ")
    lines += [f"  {key:<8} {annotations[key]}" for key in ("layer", "site", "frame") if annotations.get(key)]
    lines.append(f"  runbook  docs/runbooks/{annotations['runbook_url'].rpartition('/')[2]}")
    return "\n".join(lines)


def _check(processes: dict[str, subprocess.Popen[bytes]], folder: Path) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            raise Failure(f"{name} ended with status {process.returncode}:\n{_tail(folder, name)}")


def _tail(folder: Path, name: str) -> str:
    path = folder / f"{name}.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-8:]) if path.exists() else ""


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listened on just now, each another."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


if __name__ == "__main__":
    raise SystemExit(main())
