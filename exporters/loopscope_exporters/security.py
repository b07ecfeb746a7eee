"""Security: what a client has to show the server, and under which certificate it answers."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from loopscope.errors import SettingError

__all__ = ["Security"]


@dataclass(frozen=True, kw_only=True)
class Security:
    """TLS with a certificate and key in PEM files, and a bearer token; each may be left out."""

    certificate: str | None = None
    key: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def scheme(self) -> str:
        """`https` with a certificate."""
        return "http" if self.certificate is None else "https"

    def context(self) -> ssl.SSLContext | None:
        """Return the context of the server's side, None without TLS; SettingError for files that do not serve."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.certificate, self.key, password=_refuse)
        except (OSError, ValueError) as fault:  # ssl.SSLError is an OSError
            raise SettingError(
                "tls_certificate",
                self.certificate,
                allowed="a PEM file with the certificate, and in it or in tls_key its key without a passphrase",
                remedy=f"It could not be loaded: {fault}.",
            ) from fault
        return context

    def admits(self, environ: Mapping[str, object]) -> bool:
        """Whether a request carries the token, or there is none; takes the same time for every wrong one."""
        if self.token is None:
            return True
        scheme, _, given = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
        wanted = self.token.encode()
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("utf-8", "replace"), wanted)

    @property
    def is_open(self) -> bool:
        """Whether anybody who reaches the port can read everything."""
        return self.token is None and self.certificate is None


def _refuse() -> str:
    """A passphrase would be asked for on the terminal: there may be none, and training would wait for it."""
    raise ValueError("the key has a passphrase")
