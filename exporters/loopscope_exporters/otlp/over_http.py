"""OTLP over HTTP: one POST of protobuf a request."""

from __future__ import annotations

import gzip
import http.client
import io
import socket
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from .answers import MAX_ANSWER_BYTES, Answer, Outcome
from .environment import Destination
from .sockets import Connector, remaining

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["OverHttp"]

_RETRYABLE = frozenset({429, 502, 503, 504})
"""https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes"""


class OverHttp:
    """Sends to a collector over HTTP/1.1; redirections are not followed, since headers may hold credentials."""

    def __init__(self, destination: Destination) -> None:
        self._endpoint = destination.endpoint
        self._connector = Connector(destination)
        self._is_compressed = destination.is_compressed
        encoding = {"Content-Encoding": "gzip"} if destination.is_compressed else {}
        self._headers = {
            "User-Agent": "loopscope-OTLP-Exporter",
            **dict(destination.headers),
            "Content-Type": "application/x-protobuf",
            "Connection": "close",
            **encoding,
        }

    def send(self, body: bytes, timeout_seconds: float) -> Answer:
        """Send one request and wait for its answer."""
        deadline = time.monotonic() + timeout_seconds
        connection = http.client.HTTPConnection(self._endpoint.authority)
        try:
            connection.sock = cast(socket.socket, _Timed(self._connector.open(deadline), deadline))
            data = gzip.compress(body, compresslevel=1, mtime=0) if self._is_compressed else body
            connection.request("POST", self._endpoint.path, data, self._headers)
            return _answer(connection.getresponse())
        except (OSError, http.client.HTTPException) as fault:
            return Answer(outcome=Outcome.RETRY, reason=str(fault) or type(fault).__name__)
        finally:
            connection.close()
            self._connector.close()

    def abort(self) -> None:
        """End the request under way; any thread."""
        self._connector.abort()


class _Timed:
    """What http.client uses of a socket, with one deadline for all of it: a server may send a byte now and then."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = connected, deadline

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(remaining(self._deadline))
        self._socket.sendall(data)

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._socket, self._deadline))

    def close(self) -> None:
        """Leave that to who opened it."""


class _Reader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = connected, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._socket.settimeout(remaining(self._deadline))
        return self._socket.recv_into(buffer)


def _answer(response: http.client.HTTPResponse) -> Answer:
    body = response.read(MAX_ANSWER_BYTES)
    if 200 <= response.status < 300:
        return Answer(outcome=Outcome.DELIVERED, body=body)
    reason = f"HTTP {response.status} {response.reason}"
    if response.status in _RETRYABLE:
        return Answer(outcome=Outcome.RETRY, reason=reason, wait_seconds=_wait_seconds(response.headers["Retry-After"]))
    return Answer(outcome=Outcome.REFUSED, reason=reason)


def _wait_seconds(text: str | None) -> float | None:
    """Return what Retry-After says, in seconds or as a date; None where it says nothing that can be read."""
    if text is None:
        return None
    try:
        return (
            max(0.0, float(text)) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
        )
    except (ValueError, OverflowError):
        return None
