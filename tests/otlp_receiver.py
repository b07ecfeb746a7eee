"""A real OTLP receiver in a process of its own: grpcio on OpenTelemetry's services, or http.server.

It is a process because it is to be killed, and because grpcio must not be in one that forks, as the tests' does.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from tests.waiting import wait_until

__all__ = ["Receiver", "Request", "attributes_of", "black_hole", "receive", "value_of"]

_SERVER = Path(__file__).with_name("otlp_server.py")
_REQUESTS = {
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
    "traces": trace_service_pb2.ExportTraceServiceRequest,
}


class Request(NamedTuple):
    """One request that was received, whether it was taken or not."""

    signal: str
    is_taken: bool
    headers: Mapping[str, str]
    path: str
    num_bytes: int
    message: Any


class Receiver:
    """The process, and what it has received so far."""

    def __init__(self, process: subprocess.Popen[str], endpoint: str) -> None:
        self._process = process
        self.endpoint = endpoint
        self.requests: list[Request] = []
        self._num_told = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def answer(self, **how: Any) -> None:
        """Answer from here on with `status` (a gRPC code's name, or HTTP's number), after `delay` seconds.

        `retry_after` comes with it; `rejected` is how much of each request is refused in part; `signal` restricts it.
        """
        assert self._process.stdin is not None
        num_told = self._num_told + 1
        self._process.stdin.write(json.dumps(how) + "\n")
        self._process.stdin.flush()
        wait_until(lambda: self._num_told == num_told)

    def kill(self) -> None:
        """End the process as a crash does."""
        self._process.kill()
        self._process.wait(10)
        self._thread.join(10)

    def taken(self, signal: str) -> list[Any]:
        """Return the messages that were taken."""
        return [request.message for request in list(self.requests) if request.signal == signal and request.is_taken]

    def metrics(self, index: int = -1) -> dict[str, Any]:
        """Return the metrics of one request by name, empty where there is none yet."""
        taken = self.taken("metrics")
        if not taken:
            return {}
        (resource,) = taken[index].resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    def values(self, name: str, index: int = -1) -> dict[tuple[tuple[str, Any], ...], float]:
        """Return the numbers of one metric by their attributes, `agent` left out; without those that have ended."""
        metric = self.metrics(index).get(name)
        if metric is None:
            return {}
        points = (metric.sum if metric.HasField("sum") else metric.gauge).data_points
        return {
            tuple(pair for pair in attributes_of(point).items() if pair[0] != "agent"): point.as_double
            for point in points
            if not point.flags
        }

    def logs(self) -> list[Any]:
        """Return all log records that were taken."""
        return [
            record
            for message in self.taken("logs")
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def spans(self) -> list[Any]:
        """Return all spans that were taken."""
        return [
            span
            for message in self.taken("traces")
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            entry = json.loads(line)
            if "signal" not in entry:
                self._num_told += 1
                continue
            message = _REQUESTS[entry["signal"]].FromString(base64.b64decode(entry.pop("body")))
            self.requests.append(Request(**entry, message=message))


def attributes_of(message: Any) -> dict[str, Any]:
    """Return the attributes of a point, a record, a span or a resource."""
    return {pair.key: value_of(pair.value) for pair in message.attributes}


def value_of(value: Any) -> Any:
    """Return an AnyValue as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(entry) for entry in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)


@contextmanager
def receive(protocol: str = "grpc", address: str = "127.0.0.1:0", *tls: str) -> Iterator[Receiver]:
    """Start a receiver at `address` (`host:port` or `unix:path`), with TLS where certificate and key are given."""
    command = [sys.executable, str(_SERVER), protocol, address, *tls]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            host = address.rpartition(":")[0]
            scheme = "https" if tls else "http"
            endpoint = address if address.startswith("unix:") else f"{scheme}://{host}:{port}"
            receiver = Receiver(process, endpoint)
            try:
                yield receiver
            finally:
                receiver.kill()  # and wait for its thread: Popen closes what that reads
        finally:
            process.kill()


@contextmanager
def black_hole() -> Iterator[str]:
    """Give the URL of a collector that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
