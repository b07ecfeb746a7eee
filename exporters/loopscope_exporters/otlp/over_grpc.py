"""OTLP over gRPC: one unary call a request, spoken over HTTP/2 on a socket of our own.

grpcio is not used: its threads and descriptors do not survive a fork. A DataLoader's worker died of a segmentation
fault while a call was under way (grpcio 1.85.1), and the fork itself may hang.
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import gzip
import socket
import struct
import time
from base64 import b64decode
from collections.abc import Mapping
from urllib.parse import unquote

from .answers import MAX_ANSWER_BYTES, Answer, Outcome
from .environment import Destination
from .sockets import Connector, remaining

try:
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import (
        ConnectionTerminated,
        DataReceived,
        ResponseReceived,
        StreamEnded,
        StreamReset,
        TrailersReceived,
    )
    from h2.exceptions import ProtocolError
except ImportError as fault:
    raise ImportError("The exporter 'otlp' needs h2 for gRPC: pip install 'loopscope[otlp]'") from fault

from .messages import DecodeError

__all__ = ["OverGrpc"]

_SERVICES = {
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
}
_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_RETRYABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
"""https://opentelemetry.io/docs/specs/otlp/#failures; RESOURCE_EXHAUSTED is one only where RetryInfo comes with it."""
_HTTP_RETRYABLE = frozenset({"429", "502", "503", "504"})
_RECEIVE_BYTES = 65_536


class OverGrpc:
    """Calls one service of a collector."""

    def __init__(self, signal: str, destination: Destination) -> None:
        self._destination = destination
        self._path = f"/{_SERVICES[signal]}/Export"
        self._connector = Connector(destination, ("h2",))

    def send(self, body: bytes, timeout_seconds: float) -> Answer:
        """Send one request and wait for its answer."""
        deadline = time.monotonic() + timeout_seconds
        try:
            connected = self._connector.open(deadline)
            if self._connector.protocol not in {None, "h2"}:
                raise ConnectionError("the collector does not speak HTTP/2")
            call = _Call(connected, deadline)
            return call.run(self._headers(timeout_seconds), self._message(body))
        except (OSError, ProtocolError) as fault:
            return Answer(outcome=Outcome.RETRY, reason=str(fault) or type(fault).__name__)
        finally:
            self._connector.close()

    def abort(self) -> None:
        """End the call under way; any thread."""
        self._connector.abort()

    def _headers(self, timeout_seconds: float) -> list[tuple[str, str]]:
        endpoint = self._destination.endpoint
        headers = [
            (":method", "POST"),
            (":scheme", "https" if endpoint.is_secure else "http"),
            (":path", self._path),
            (":authority", endpoint.authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "loopscope-OTLP-Exporter"),
            ("grpc-timeout", f"{max(1, round(timeout_seconds * 1e3))}m"),
        ]
        if self._destination.is_compressed:
            headers.append(("grpc-encoding", "gzip"))
        return headers + [(name.lower(), value) for name, value in self._destination.headers]

    def _message(self, body: bytes) -> bytes:
        is_compressed = self._destination.is_compressed
        data = gzip.compress(body, compresslevel=1, mtime=0) if is_compressed else body
        return struct.pack(">BI", is_compressed, len(data)) + data


class _Call:
    """One call on a connection of its own."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = connected, deadline
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._has_ended = False

    def run(self, headers: list[tuple[str, str]], message: bytes) -> Answer:
        self._http.initiate_connection()
        stream = self._http.get_next_available_stream_id()
        self._http.send_headers(stream, headers)
        left = memoryview(message)
        while not self._has_ended:
            left = self._offer(stream, left)
            self._flush()
            self._receive()
        return _answer(self._headers, bytes(self._body))

    def _offer(self, stream: int, left: memoryview) -> memoryview:
        """Give HTTP/2 as much of the message as the collector takes now; return the rest."""
        while left:
            size = min(len(left), self._http.local_flow_control_window(stream), self._http.max_outbound_frame_size)
            if size <= 0:
                break
            self._http.send_data(stream, bytes(left[:size]), end_stream=size == len(left))
            left = left[size:]
        return left

    def _flush(self) -> None:
        self._socket.settimeout(remaining(self._deadline))
        self._socket.sendall(self._http.data_to_send())

    def _receive(self) -> None:
        self._socket.settimeout(remaining(self._deadline))
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("the collector closed the connection")
        for event in self._http.receive_data(data):
            if isinstance(event, ResponseReceived | TrailersReceived):
                self._headers |= {str(name): str(value) for name, value in event.headers or ()}
            elif isinstance(event, DataReceived):
                self._http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                self._body += (event.data or b"")[: MAX_ANSWER_BYTES - len(self._body)]
            elif isinstance(event, StreamEnded):
                self._has_ended = True
            elif isinstance(event, StreamReset | ConnectionTerminated) and not self._has_ended:
                self._end_early(event)

    def _end_early(self, event: StreamReset | ConnectionTerminated) -> None:
        """A server may refuse before it has read all, and then reset the stream; else the answer is missing."""
        if "grpc-status" not in self._headers:
            raise ConnectionResetError(f"the collector ended the call (HTTP/2 error {event.error_code})")
        self._has_ended = True


def _answer(headers: Mapping[str, str], body: bytes) -> Answer:
    status = headers.get("grpc-status")
    if status is None:
        http_status = headers.get(":status", "")
        outcome = Outcome.RETRY if http_status in _HTTP_RETRYABLE else Outcome.REFUSED
        return Answer(outcome=outcome, reason=f"HTTP {http_status} without a gRPC status")
    if status == "0":
        return Answer(outcome=Outcome.DELIVERED, body=_unpack(body))
    code = _CODES[int(status)] if status.isdigit() and int(status) < len(_CODES) else status
    reason = f"gRPC {code} {unquote(headers.get('grpc-message', ''))}".strip()
    wait_seconds = _wait_seconds(headers.get("grpc-status-details-bin"))
    if code in _RETRYABLE or (code == "RESOURCE_EXHAUSTED" and wait_seconds is not None):
        return Answer(outcome=Outcome.RETRY, reason=reason, wait_seconds=wait_seconds)
    return Answer(outcome=Outcome.REFUSED, reason=reason)


def _unpack(body: bytes) -> bytes:
    """Return the message of an answer; a compressed one is not asked for and counts as empty."""
    return body[5:] if body[:1] == b"\0" else b""


def _wait_seconds(details: str | None) -> float | None:
    if details is None:
        return None
    info = RetryInfo()
    try:
        status = Status.FromString(b64decode(details + "=" * (-len(details) % 4)))
        if not any(detail.Unpack(info) for detail in status.details):
            return None
    except (ValueError, DecodeError):
        return None
    seconds: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    return max(0.0, seconds)
