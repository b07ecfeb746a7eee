"""Sockets to a collector: TCP, TLS over it, or unix, each with one deadline for all that is done with it."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress

from loopscope.errors import SettingError

from .environment import Destination

__all__ = ["Connector", "remaining"]


class Connector:
    """Opens one socket at a time, and lets another thread cut it off.

    A new connection for each request: what a collector, a proxy or a fork has done to an idle one is then no matter.
    The sockets belong to one thread of ours and have no threads of their own, so that a process can fork at any time.
    """

    def __init__(self, destination: Destination, protocols: tuple[str, ...] = ()) -> None:
        self._endpoint = destination.endpoint
        self._context = _tls_context(destination, protocols) if destination.endpoint.is_secure else None
        self._socket: socket.socket | None = None
        self._is_aborted = False

    def open(self, deadline: float) -> socket.socket:
        """Return a connected socket; OSError where there is none until `deadline` (monotonic)."""
        connected = self._connect(remaining(deadline))
        self._socket = connected
        if self._is_aborted:
            self.close()
            raise ConnectionAbortedError("the exporter is closed")
        if self._context is not None:
            secured = self._context.wrap_socket(
                connected, server_hostname=self._endpoint.host, do_handshake_on_connect=False
            )
            self._socket = connected = secured
            secured.settimeout(remaining(deadline))
            secured.do_handshake()
        connected.settimeout(remaining(deadline))
        return connected

    @property
    def protocol(self) -> str | None:
        """What was agreed upon by ALPN, None without TLS."""
        return self._socket.selected_alpn_protocol() if isinstance(self._socket, ssl.SSLSocket) else None

    def close(self) -> None:
        """Close the socket, for a forked child that holds a copy of it as well."""
        connected, self._socket = self._socket, None
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
            connected.close()

    def abort(self) -> None:
        """Have what waits for the socket fail, now and from here on; any thread."""
        self._is_aborted = True
        connected = self._socket
        if connected is not None:
            with suppress(OSError):
                # Of the plain socket: a TLS farewell would wait for the thread that reads.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def _connect(self, timeout_seconds: float) -> socket.socket:
        if self._endpoint.unix_path is None:
            return socket.create_connection((self._endpoint.host, self._endpoint.port), timeout_seconds)
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(timeout_seconds)
            connected.connect(self._endpoint.unix_path)
        except OSError:
            connected.close()
            raise
        return connected


def remaining(deadline: float) -> float:
    """Return the seconds until `deadline` (monotonic); TimeoutError where there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def _tls_context(destination: Destination, protocols: tuple[str, ...]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=destination.certificate)
        if destination.client_certificate is not None:
            context.load_cert_chain(destination.client_certificate, destination.client_key)
    except OSError as fault:  # ssl.SSLError is one
        files = destination.certificate, destination.client_certificate, destination.client_key
        raise SettingError(
            "OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE or _CLIENT_KEY",
            files,
            allowed="files with certificates and a key in PEM format",
            remedy=f"Check that they exist and can be read ({fault}).",
        ) from fault
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
