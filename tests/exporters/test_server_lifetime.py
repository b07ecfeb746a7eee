"""Laws of the metrics server's life: it finds a port, outlives ill-mannered clients, and ends with its last holder."""

from __future__ import annotations

import logging
import socket
import threading
import time

import pytest
from tests.python_process import run_python
from tests.waiting import wait_until
from tests.web import request

from loopscope.errors import SettingError
from loopscope_exporters import connections
from loopscope_exporters.server import MetricsServer


def _connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def _is_refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_taken_port_gives_way_to_the_next(server, caplog):
    """The next free port is used, and a warning says so."""
    caplog.set_level(logging.INFO, "loopscope")

    second = MetricsServer(port=server.port)
    second.release()

    assert server.port < second.port <= server.port + 100
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(server.port) in caplog.text
    assert second.url in caplog.text


def test_the_port_asked_for_is_no_warning(caplog):
    """Where the server listens is said at INFO."""
    caplog.set_level(logging.INFO, "loopscope")

    server = MetricsServer(port=0)
    server.release()

    assert [(record.levelname, server.url in record.getMessage()) for record in caplog.records] == [("INFO", True)]


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b"])
def test_a_host_that_cannot_be_bound_is_a_setting_error(host):
    """The error names the setting, its value, what is allowed and a remedy."""
    with pytest.raises(SettingError, match=r"host='.*' cannot be used. Allowed: .* Use 127.0.0.1"):
        MetricsServer(host, 0)


def test_the_server_lives_until_its_last_holder_lets_go():
    """Two holders: the first release changes nothing, the second closes socket and threads."""
    before = set(threading.enumerate())
    server = MetricsServer(port=0)
    server.retain()
    server.retain()

    server.release()
    assert request(server.url + "/healthz").status == 200
    server.release()

    assert server.is_closed
    assert _is_refused(server.port)
    assert set(threading.enumerate()) <= before


def test_an_idle_client_does_not_delay_the_end():
    """A client that connects and says nothing is cut off at the last release."""
    before = set(threading.enumerate())
    server = MetricsServer(port=0)
    server.retain()
    with _connect(server) as client:
        wait_until(lambda: len(set(threading.enumerate()) - before) == 2)
        start = time.monotonic()
        server.release()
        assert time.monotonic() - start < 1.0
        assert client.recv(1) == b""
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_an_answer_under_way_does_not_hang_the_end():
    """A handler that never returns does not keep release from returning within a second."""
    server = MetricsServer(port=0)
    server.retain()
    has_begun, may_end = threading.Event(), threading.Event()

    def stuck(environ, start_response):
        has_begun.set()
        may_end.wait(20)
        start_response("200 OK", [])
        return [b""]

    server.add("/stuck", stuck)
    with _connect(server) as client:
        client.sendall(b"GET /stuck HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert has_begun.wait(10)
        start = time.monotonic()
        server.release()
        assert time.monotonic() - start < 1.0
    may_end.set()
    assert _is_refused(server.port)


def test_an_answer_under_way_is_finished_at_the_end():
    """A scrape that needs a little time still gets its answer when the last holder lets go."""
    server = MetricsServer(port=0)
    server.retain()
    has_begun = threading.Event()

    def slow(environ, start_response):
        has_begun.set()
        wait_until(lambda: server.is_closed)
        start_response("200 OK", [])
        return [b"complete"]

    server.add("/slow", slow)
    with _connect(server) as client:
        client.sendall(b"GET /slow HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert has_begun.wait(10)
        server.release()
        answer = b"".join(iter(lambda: client.recv(4_096), b""))

    assert answer.endswith(b"complete")


def test_clients_that_never_finish_make_room(server, monkeypatch):
    """With all places taken by clients that drip, new requests are served as soon as those are too old."""
    monkeypatch.setattr(connections, "CONNECTION_SECONDS", 0.0)
    idle = [_connect(server) for _ in range(connections.MAX_CONNECTIONS)]

    def is_served() -> bool:
        try:
            return request(server.url + "/healthz").status == 200
        except OSError:
            return False

    wait_until(is_served)
    assert any(client.recv(1) == b"" for client in idle)  # who had been there too long was sent away
    for client in idle:
        client.close()


def test_a_silent_client_is_dropped(server, monkeypatch):
    """A client that stops in the middle of its request is cut off after the read timeout."""
    monkeypatch.setattr(connections._RequestHandler, "timeout", 0.05)
    with _connect(server) as client:
        client.sendall(b"GET / HT")
        assert client.recv(1) == b""
    assert server.num_faults == 0


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", b"GET\n\n", b"G" * 70_000 + b"\n", b"\n"]
)
def test_nonsense_does_no_harm(server, nonsense):
    """After bytes that are no HTTP the server answers as before, and counts no fault."""
    with _connect(server) as client:
        client.sendall(nonsense)
        client.shutdown(socket.SHUT_WR)
        client.recv(1_000)

    assert request(server.url + "/healthz").status == 200
    assert server.num_faults == 0


_FORK = """
import os, stat
from loopscope_exporters.live import LiveExporter
from loopscope_exporters.prometheus import PrometheusExporter
from loopscope_exporters.server import MetricsServer
from tests.web import request

server = MetricsServer(port=0)
exporters = [PrometheusExporter(server), LiveExporter(server)]
server._lock.acquire()  # as if another thread held it at the fork
child = os.fork()
if child == 0:
    server.close_in_child()
    for exporter in exporters:
        exporter.close()
    sockets = 0
    for fd in range(3, 100):
        try:
            sockets += stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError:
            pass
    os._exit(sockets)
server._lock.release()
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, "the child kept a socket"
assert request(server.url + "/healthz").status == 200
for exporter in exporters:
    exporter.close()
assert server.is_closed
"""


def test_a_forked_child_lets_go_without_hurting_the_parent():
    """In the child every inherited socket is closed, without a lock; the parent goes on serving."""
    assert run_python("-W", "ignore::DeprecationWarning", "-c", _FORK).stdout == ""
