"""A real Prometheus on a loopback port, for tests that ask it what it has scraped."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from tests.waiting import wait_until

__all__ = ["PrometheusServer", "Result", "free_port"]

Result = dict[frozenset[tuple[str, str]], float]
"""Values by label set, without the labels that the scrape adds (`instance`, `job`)."""


class PrometheusServer:
    """Scrapes `targets` ("host:port") from entering until leaving; it stops only its own process.

    `directory` is to be a temporary one. `rules` are rule files, `scrape` further keys of the scrape
    configuration. `is_installed` says whether there is a binary.
    """

    def __init__(
        self,
        directory: Path,
        targets: Sequence[str],
        *,
        scrape_interval: str = "200ms",
        rules: Sequence[Path] = (),
        alertmanagers: Sequence[str] = (),
        scrape: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._directory = directory
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        # JSON is YAML.
        configuration = {
            "global": {
                "scrape_interval": scrape_interval,
                "scrape_timeout": scrape_interval,
                "evaluation_interval": scrape_interval,
            },
            "rule_files": [str(path) for path in rules],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
            "scrape_configs": [{"job_name": "training", "static_configs": [{"targets": list(targets)}], **scrape}],
        }
        (directory / "prometheus.yml").write_text(json.dumps(configuration))

    @staticmethod
    def is_installed() -> bool:
        """Whether the binary `prometheus` is on the path."""
        return shutil.which("prometheus") is not None

    def __enter__(self) -> Self:
        """Start the process and wait until it is ready."""
        with (self._directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
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

    def query(self, expression: str) -> Result:
        """Return the instant vector (or scalar, under the empty label set) of a PromQL expression."""
        data = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))["data"]
        if data["resultType"] == "scalar":
            return {frozenset(): float(data["result"][1])}
        return {
            frozenset(
                (name, value) for name, value in series["metric"].items() if name not in {"instance", "job"}
            ): float(series["value"][1])
            for series in data["result"]
        }

    def wait_for(self, expression: str, *, seconds: float = 15.0) -> Result:
        """Return the result of `expression` as soon as it is not empty: a comparison waits for its truth."""
        return wait_until(lambda: self.query(expression), seconds=seconds)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=2):
                return True
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
            return json.load(answer)


def free_port() -> int:
    """Return a port of the loopback that nobody listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
