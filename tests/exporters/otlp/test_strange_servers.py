"""Laws of what is no collector: whatever answers, or does not, the exporter goes on and says what it saw."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import contextmanager

import pytest
from tests import builders
from tests.otlp_exporting import exporting
from tests.otlp_receiver import black_hole, receive
from tests.waiting import wait_until

HTTP2_PREFACE = b"\0\0\0\4\0\0\0\0\0"  # empty settings


@contextmanager
def saying(answer: bytes, pause_seconds: float = 0.0):
    """Give the URL of a server that says the same to everybody, whatever they ask, and hangs up.

    With a pause it says one byte at a time.
    """
    has_ended = threading.Event()

    def say(connection):
        if not pause_seconds:
            connection.sendall(answer)
        for index in range(len(answer) if pause_seconds else 0):
            if has_ended.wait(pause_seconds):
                return
            connection.sendall(answer[index : index + 1])

    def serve(listening):
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):  # who hangs up first
                connection.recv(65_536)
                say(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        has_ended.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 999 \r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 100000000\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        HTTP2_PREFACE,
        HTTP2_PREFACE + b"\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\2",  # GOAWAY
        HTTP2_PREFACE + b"\0\0\4\3\0\0\0\0\1\0\0\0\7",  # RST_STREAM, refused
        HTTP2_PREFACE + b"\0\0\1\1\5\0\0\0\1\x88",  # :status 200 and the end, no gRPC status
        b"\xff\xff\xff\0\0\0\0\0\0" + b"x" * 100,
    ],
)
def test_what_is_no_answer(protocol, answer, caplog):
    """Garbage is a failure that is told of and tried again; no part of the exporter dies of it."""
    with saying(answer) as endpoint, exporting(endpoint, protocol, timeout="300") as exporter:
        wait_until(lambda: "does not take metrics" in caplog.text)
        exporter.flush()  # raises what a thread of ours died of


def test_a_page_in_place_of_an_answer():
    """A success is one, even where its body is a proxy's page."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    with saying(page) as endpoint, exporting(endpoint, "http/protobuf") as exporter:
        exporter.export(builders.event())
        wait_until(lambda: exporter.cpu_seconds > 0)
        exporter.flush()

    assert exporter.num_dropped == {"metrics": 0, "logs": 0, "traces": 0}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_speaking_to_the_other_protocol(protocol, caplog):
    """The wrong protocol for a port is told of, whichever way around."""
    other = "http/protobuf" if protocol == "grpc" else "grpc"
    with receive(other) as receiver, exporting(receiver.endpoint, protocol, timeout="500"):
        wait_until(lambda: "does not take metrics" in caplog.text)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_black_hole_is_bounded_and_counted(protocol, caplog):
    """What nobody ever answers waits within its bound, the rest is counted at once, and all of it at the end."""
    with black_hole() as endpoint, exporting(endpoint, protocol, OTEL_BLRP_MAX_QUEUE_SIZE="100") as exporter:
        for step in range(1_000):
            exporter.export(builders.event(step=step))
        waiting = 1_000 - exporter.num_dropped["logs"]

        assert 100 <= waiting <= 200  # the queue, and the batch that is under way

    assert exporter.num_dropped["logs"] == 1_000
    assert "1000 log records were not delivered" in caplog.text


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_server_that_drips(protocol, caplog):
    """A byte now and then does not hold a request for longer than its timeout."""
    answer = {"grpc": HTTP2_PREFACE * 1_000, "http/protobuf": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000}[protocol]
    with saying(answer, pause_seconds=0.05) as endpoint, exporting(endpoint, protocol, timeout="400") as exporter:
        wait_until(lambda: "does not take metrics" in caplog.text, seconds=5)
        exporter.flush()

    assert "timed out" in caplog.text
