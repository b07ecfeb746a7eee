"""Laws of TLS: a collector is believed only with a certificate of the authority that was given, or of the system's."""

from __future__ import annotations

import shutil
import socket
import subprocess

import pytest
from tests import builders
from tests.otlp_exporting import exporting
from tests.otlp_receiver import receive
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, which makes certificates")
both = pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Certificate and key of a collector at 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=collector", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    paths = [str(folder / name) for name in ("certificate.pem", "key.pem")]
    subprocess.run([*command, *subject, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


@both
def test_with_its_certificate(protocol, certificates):
    """With the collector's certificate everything arrives, as over plain TCP."""
    with receive(protocol, "127.0.0.1:0", *certificates) as receiver:
        with exporting(receiver.endpoint, protocol, certificate=certificates[0]) as exporter:
            exporter.export(builders.step_report(3))
            wait_until(lambda: receiver.values("loopscope.step") == {(): 3.0})

        assert receiver.endpoint.startswith("https://")


@both
def test_without_its_certificate(protocol, certificates, caplog):
    """A collector whose certificate nobody vouches for gets nothing, and the warning says why."""
    with receive(protocol, "127.0.0.1:0", *certificates) as receiver:
        with exporting(receiver.endpoint, protocol):
            wait_until(lambda: "does not take metrics" in caplog.text)

        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
        assert receiver.requests == []


@both
def test_a_server_that_speaks_no_tls(protocol, caplog):
    """A handshake that is never answered ends with the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with exporting(endpoint, protocol, timeout="200"):
            wait_until(lambda: "does not take metrics" in caplog.text)

    assert "timed out" in caplog.text
