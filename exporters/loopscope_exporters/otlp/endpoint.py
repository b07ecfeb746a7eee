"""Endpoint: where a collector listens, read from a URL, a gRPC target or the path of a unix socket."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["GRPC", "HTTP", "Endpoint", "guess_protocol", "parse_endpoint"]

GRPC = "grpc"
HTTP = "http/protobuf"
_UNIX = ("unix-abstract:", "unix://", "unix:")
_PORTS = {"http": 80, "https": 443}
_GRPC_PORT = 4317


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address to connect to; `unix_path` is None where it is a host and a port."""

    host: str = "localhost"
    port: int = 0
    unix_path: str | None = None
    is_secure: bool = False
    path: str = ""
    """What a request asks for, over HTTP."""

    @property
    def authority(self) -> str:
        """Host and port as a request names them; without credentials, so that it can be logged."""
        if self.unix_path is not None:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"unix:{self.unix_path}".replace("\0", "@")
        return f"{'https' if self.is_secure else 'http'}://{self.authority}{self.path.partition('?')[0]}"


def guess_protocol(text: str) -> str:
    """Return the protocol of an endpoint for which none is set: OTLP's default, HTTP, but where that cannot be.

    Unix sockets, targets without a scheme and the port 4317 are gRPC's.
    """
    if text.startswith(_UNIX) or (text and "://" not in text):
        return GRPC
    return GRPC if text and urlsplit(text).port == _GRPC_PORT else HTTP


def parse_endpoint(text: str, protocol: str, *, suffix: str = "", is_insecure: bool = False) -> Endpoint:
    """Return the endpoint that `text` names; ValueError says what is wrong with it.

    `suffix` is added to the path of a URL, and is the path on a unix socket. `is_insecure` counts only where there
    is no scheme, as the specification has it.
    """
    for scheme in _UNIX:
        if text.startswith(scheme):
            return _unix(scheme, text.removeprefix(scheme), suffix)
    if "://" not in text:
        if protocol != GRPC:
            raise ValueError("a URL needs its scheme")
        return _from_url(f"{'http' if is_insecure else 'https'}://{text}", "")
    return _from_url(text, suffix)


def _unix(scheme: str, path: str, suffix: str) -> Endpoint:
    if not path:
        raise ValueError("there is no path")
    return Endpoint(unix_path=f"\0{path}" if scheme == "unix-abstract:" else path, path=suffix or "/")


def _from_url(text: str, suffix: str) -> Endpoint:
    parts = urlsplit(text)
    if parts.scheme not in _PORTS:
        raise ValueError(f"{parts.scheme!r} is no scheme of OTLP")
    if not parts.hostname:
        raise ValueError("there is no host")
    path = f"{parts.path.rstrip('/')}{suffix}" if suffix else parts.path
    return Endpoint(
        host=parts.hostname,
        port=_PORTS[parts.scheme] if parts.port is None else parts.port,
        is_secure=parts.scheme == "https",
        path=(path or "/") + (f"?{parts.query}" if parts.query else ""),
    )
