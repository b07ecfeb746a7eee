"""A certificate for the tests of TLS, made by openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

__all__ = ["client_context", "make_certificate", "needs_openssl"]

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, which makes certificates")


def make_certificate(folder: Path, *, passphrase: str | None = None) -> tuple[str, str]:
    """Return the paths of a certificate for 127.0.0.1, signed by itself, and of its key."""
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    secret = ["-nodes"] if passphrase is None else ["-passout", f"pass:{passphrase}"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *secret]
    names = ["-subj", "/CN=loopscope", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*made, *names, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return certificate, key


def client_context(certificate: str) -> ssl.SSLContext:
    """Return what a client needs to believe that certificate."""
    return ssl.create_default_context(cafile=certificate)
