"""A real Alertmanager on a loopback port, and a receiver of its webhooks."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from tests.prometheus_server import PrometheusServer, free_port
from tests.waiting import wait_until

from loopscope_dashboards.alertmanager import alertmanager_configuration

__all__ = ["AlertmanagerServer", "WebhookReceiver", "needs_alertmanager"]


class WebhookReceiver:
    """Keeps every alert that is posted to it, from entering until leaving."""

    def __init__(self) -> None:
        self._alerts: list[dict[str, Any]] = []
        alerts = self._alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                alerts.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """Where webhooks are to be sent."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def names(self) -> set[str]:
        """Return the names of all alerts that have come so far."""
        return {alert["labels"]["alertname"] for alert in list(self._alerts)}

    def find(self, name: str, status: str = "firing") -> dict[str, Any] | None:
        """Return the latest alert of a name with a status, None where there is none."""
        found = [
            alert for alert in list(self._alerts) if (alert["labels"]["alertname"], alert["status"]) == (name, status)
        ]
        return found[-1] if found else None


class AlertmanagerServer:
    """Sends what it gets to a webhook, with our example's routes at short intervals; it stops only its own process."""

    def __init__(self, directory: Path, webhook_url: str) -> None:
        self._directory = directory
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        configuration = alertmanager_configuration(webhook_url, group_wait_seconds=0.2, group_interval_seconds=0.5)
        (directory / "alertmanager.yml").write_text(json.dumps(configuration))  # JSON is YAML

    @staticmethod
    def program() -> str | None:
        """Return the path of the binary, None where it is not installed; Debian has a name of its own for it."""
        return shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")

    @property
    def address(self) -> str:
        """What Prometheus sends alerts to."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Start the process and wait until it is ready."""
        program = self.program()
        assert program is not None
        with (self._directory / "alertmanager.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={self._directory / 'alertmanager.yml'}",
                    f"--storage.path={self._directory / 'alertmanager'}",
                    f"--web.listen-address={self.address}",
                    "--cluster.listen-address=",  # no gossip: nothing listens but on loopback
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, seconds=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "alertmanager.log").read_text()
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=2):
                return True
        except OSError:
            return False


needs_alertmanager = pytest.mark.skipif(
    not PrometheusServer.is_installed() or AlertmanagerServer.program() is None,
    reason="prometheus and prometheus-alertmanager are not both installed (apt-get install them)",
)
