"""Laws of the server's security: TLS and token where they are set, a warning where an open door has neither."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from pathlib import Path

import pytest
from tests.certificates import client_context, make_certificate, needs_openssl
from tests.loops import network, watch
from tests.web import request
from torch.optim import SGD

from loopscope.errors import SettingError
from loopscope_exporters.jsonl import read
from loopscope_exporters.security import Security
from loopscope_exporters.server import MetricsServer

TOKEN = "correct horse"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Certificate and key of a server at 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def guarded():
    """A server that asks for a token."""
    server = MetricsServer(port=0, security=Security(token=TOKEN))
    server.retain()
    yield server
    server.release()


@pytest.fixture
def encrypted(certificate: tuple[str, str]):
    """A server with TLS."""
    server = MetricsServer(port=0, security=Security(certificate=certificate[0], key=certificate[1]))
    server.retain()
    yield server
    server.release()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 404),
        (f"bearer  {TOKEN} ", 404),
        ("Bearer wrong", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer", 401),
        ("Bearer k\xfcnstlich", 401),
        (None, 401),
    ],
)
def test_token_opens_every_path(guarded: MetricsServer, header: str | None, status: int) -> None:
    """With the token a path that is not there is a 404; without it nobody learns even that."""
    answer = request(f"{guarded.url}/absent", headers={} if header is None else {"Authorization": header})

    assert answer.status == status
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert TOKEN not in answer.text


def test_health_needs_no_token(guarded: MetricsServer) -> None:
    """Whoever asks whether the process is alive has none."""
    assert request(f"{guarded.url}/healthz").status == 200


@needs_openssl
def test_tls_answers_who_believes_the_certificate(encrypted: MetricsServer, certificate: tuple[str, str]) -> None:
    """The address is https, and the answer arrives."""
    answer = request(f"{encrypted.url}/healthz", tls=client_context(certificate[0]))

    assert encrypted.url.startswith("https://")
    assert (answer.status, answer.text) == (200, "ok\n")


@needs_openssl
def test_tls_is_no_fault_where_the_client_does_not_believe_it(encrypted: MetricsServer) -> None:
    """A client that turns away, or speaks plain text, is none of our faults."""
    with pytest.raises(ssl.SSLCertVerificationError):
        request(f"{encrypted.url}/healthz", tls=ssl.create_default_context())
    with socket.create_connection(("127.0.0.1", encrypted.port), timeout=5) as plain:
        plain.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"200 OK" not in plain.recv(100)

    assert encrypted.num_faults == 0


@needs_openssl
def test_silent_client_holds_up_nobody(encrypted: MetricsServer, certificate: tuple[str, str]) -> None:
    """A connection that never begins its handshake does not keep others from theirs."""
    with socket.create_connection(("127.0.0.1", encrypted.port), timeout=5):
        begin = time.monotonic()
        answer = request(f"{encrypted.url}/healthz", tls=client_context(certificate[0]))

    assert answer.status == 200
    assert time.monotonic() - begin < 4  # the silent one has 5 s


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["absent", "not PEM"])
def test_certificate_that_does_not_serve_is_an_error_at_attach(tmp_path: Path, content: str | None) -> None:
    """The value, what is allowed, and why it was not taken."""
    path = tmp_path / "certificate.pem"
    if content is not None:
        path.write_text(content)
    model = network()

    with pytest.raises(SettingError, match="PEM file with the certificate"):
        watch(model, SGD(model.parameters(), 0.1), port=0, tls_certificate=path).__enter__()


@needs_openssl
def test_key_with_a_passphrase_is_an_error(tmp_path: Path) -> None:
    """Nothing asks for it on the terminal: training would wait."""
    certificate, key = make_certificate(tmp_path, passphrase="secret")

    with pytest.raises(SettingError, match="without a passphrase"):
        MetricsServer(port=0, security=Security(certificate=certificate, key=key))


@pytest.mark.parametrize(("token", "num_warnings"), [(None, 1), (TOKEN, 0)])
def test_open_door_is_warned_of_once(caplog: pytest.LogCaptureFixture, token: str | None, num_warnings: int) -> None:
    """Bound to every interface without token or TLS everybody can read: that is said once."""
    with caplog.at_level(logging.WARNING, "loopscope"):
        server = MetricsServer("0.0.0.0", 0, Security(token=token))  # what is tested
        server.retain()
        server.release()

    assert sum("everybody" in record.getMessage() for record in caplog.records) == num_warnings


def test_token_is_written_nowhere(tmp_path: Path) -> None:
    """Neither the log, nor what /api/state shows, nor a repr has it."""
    model, path = network(), tmp_path / "run.jsonl"
    with watch(model, SGD(model.parameters(), 0.1), port=0, token=TOKEN, jsonl=path) as watched:
        state = request(f"{watched.agent.url}/api/state", headers={"Authorization": f"Bearer {TOKEN}"}).text
        shown = repr(watched.agent.config)

    assert TOKEN not in state + shown + path.read_text()
    assert next(iter(read(path)))["settings"]["token"] == "hidden"
