"""Laws of the metrics server's answers: which path has which, whom it refuses, and what an answer costs."""

from __future__ import annotations

import gzip
import time

import pytest
from tests.waiting import wait_until
from tests.web import request

from loopscope_exporters.server import MetricsServer


def _page(body: bytes):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    return application


def test_a_path_is_answered_by_its_handler(server):
    """What a handler returns for its path is what the client gets."""
    server.add("/page", _page(b"hello"))

    answer = request(server.url + "/page?query=1")

    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == "5"


def test_an_unknown_path_names_the_known_ones(server):
    """A 404 says which paths there are."""
    server.add("/page", _page(b""))

    answer = request(server.url + "/other")

    assert answer.status == 404
    assert "/healthz" in answer.text
    assert "/page" in answer.text


def test_what_a_handler_writes_comes_before_what_it_returns(server):
    """As WSGI has it, for applications that were written for `write`."""

    def application(environ, start_response):
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"first ")
        return [b"last"]

    server.add("/page", application)

    assert request(server.url + "/page").body == b"first last"


def test_a_removed_path_is_unknown(server):
    """After remove the path is a 404; removing it again changes nothing."""
    server.add("/page", _page(b""))

    server.remove("/page")
    server.remove("/page")

    assert request(server.url + "/page").status == 404


def test_a_shared_handler_is_made_once(server):
    """Everyone who shares a path gets the first one's handler."""
    first = server.share("/page", lambda: _page(b"first"))

    second = server.share("/page", lambda: _page(b"second"))

    assert second is first
    assert request(server.url + "/page").body == b"first"


def test_health_is_ok(server):
    """/healthz answers ok from the start."""
    assert request(server.url + "/healthz").text == "ok\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(server, method):
    """Every method but GET and HEAD is refused, with the allowed ones named."""
    answer = request(server.url + "/healthz", method=method)

    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_head_is_get_without_the_body(server):
    """HEAD has the headers of GET and no body."""
    server.add("/page", _page(b"hello"))

    answer = request(server.url + "/page", method="HEAD")

    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "5", b"")


def test_a_large_answer_is_compressed_for_who_asks(server):
    """Gzip is used only where it is accepted."""
    server.add("/page", _page(b"x" * 5_000))

    plain = request(server.url + "/page")
    packed = request(server.url + "/page", headers={"Accept-Encoding": "gzip"})

    assert plain.body == gzip.decompress(packed.body) == b"x" * 5_000
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < 500


@pytest.mark.parametrize("host", ["localhost", "localhost:9464", "127.0.0.1:1", "[::1]:80", "LOCALHOST"])
def test_loopback_names_are_welcome(server, host):
    """A request that names a loopback host is answered, whatever its port: forwarded ports change it."""
    assert request(server.url + "/healthz", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "localhost.evil.example", "[2001:db8::1]:80", ""]
)
def test_a_rebound_name_is_refused(server, host):
    """A web page that resolves its own name to 127.0.0.1 reads nothing."""
    assert request(server.url + "/healthz", headers={"Host": host}).status == 403


def test_an_opened_server_answers_to_any_name():
    """Bound to every interface the server cannot know its names, and gives a loopback url."""
    server = MetricsServer("0.0.0.0", 0)
    server.retain()

    answer = request(server.url + "/healthz", headers={"Host": "node7.cluster:9464"})
    server.release()

    assert answer.status == 200
    assert server.url == f"http://127.0.0.1:{server.port}"


def test_a_fault_in_a_handler_is_counted_and_logged_once(server, caplog):
    """The client gets a 500, the log one traceback, and the server goes on."""

    def faulty(environ, start_response):
        raise ZeroDivisionError("planted")

    server.add("/faulty", faulty)

    statuses = [request(server.url + "/faulty").status for _ in range(3)]

    assert statuses == [500, 500, 500]
    assert server.num_faults == 3
    assert caplog.text.count("ZeroDivisionError: planted") == 1
    assert request(server.url + "/healthz").status == 200


def test_cpu_time_of_answers_is_counted(server):
    """cpu_seconds grows by at least what a handler burnt, and not by what it waited."""

    def busy(environ, start_response):
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        start_response("200 OK", [])
        return []

    server.add("/busy", busy)
    before = server.cpu_seconds

    request(server.url + "/busy")

    wait_until(lambda: server.cpu_seconds - before >= 0.05)
    assert server.cpu_seconds - before < 0.5
