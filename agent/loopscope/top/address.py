"""The address of a run, as a person gives it: `host:port`, a URL, or the live page's own address with its token."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, urlsplit

from ..errors import SettingError

__all__ = ["DEFAULT_URL", "Address", "parse"]

DEFAULT_PORT = 9464
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
_KNOWN_PATHS = ("/api/live", "/api/state", "/metrics")
"""What stands behind the address in a browser or in Prometheus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a run answers."""

    base: str
    """Scheme, host, port and the prefix of a proxy, if any; without a slash at the end."""
    token: str | None = field(default=None, repr=False)
    """What stands after `#token=`."""

    @property
    def is_secure(self) -> bool:
        """Whether it is asked over TLS."""
        return self.base.startswith("https://")

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine: no proxy leads there."""
        host = urlsplit(self.base).hostname or ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def parse(text: str) -> Address:
    """Return the address that a text means; a bare host has the port 9464. Raises SettingError where it is none."""
    try:
        parts = urlsplit(_whole(text.strip()))
        port = parts.port
    except ValueError as fault:  # a bracket that is not closed, a port out of range
        raise _wrong(text, f"{str(fault)[:1].upper()}{str(fault)[1:]}.") from None
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"}:
        raise _wrong(text, "Begin it with http:// or https://.")
    if not host or not host.isprintable() or " " in host or parts.username is not None:
        raise _wrong(text, f"Use {DEFAULT_URL} for a run on this machine.")
    if port is None and "://" not in text:
        port = DEFAULT_PORT
    path = parts.path.rstrip("/")
    for known in _KNOWN_PATHS:
        path = path.removesuffix(known)
    name = f"[{host}]" if ":" in host else host
    place = name if port is None else f"{name}:{port}"
    tokens = parse_qs(parts.fragment).get("token")
    return Address(base=f"{parts.scheme}://{place}{quote(path, safe='/%')}", token=tokens[-1] if tokens else None)


def _whole(text: str) -> str:
    """Complete `9464` and `host:9464`."""
    if text.removeprefix(":").isdecimal():
        return f"http://127.0.0.1:{text.removeprefix(':')}"
    return text if "://" in text else f"http://{text}"


def _wrong(text: str, remedy: str) -> SettingError:
    return SettingError("URL", text, allowed="host:port, or a URL as http://host:port/prefix", remedy=remedy)
