"""The client of /api/live: one question, and the answer, or why there is none in words for a person."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, RemoteDisconnected
from typing import IO, Any, Literal, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode

from ..errors import SettingError
from ..report.humanise import escape_controls
from .address import Address

__all__ = ["Answer", "Client", "Failure"]

VERSION = 1
"""Of the format that we read (docs/live.md)."""
ANSWER_SECONDS = 10.0
"""Longest wait for the server's next bytes; the display goes on meanwhile."""
MAX_BYTES = 64 * 1024 * 1024
_MAX_WORDS = 500

Answer: TypeAlias = dict[str, Any]
"""The fields of docs/live.md, of which only `agent` is sure to be there and to be of the right type."""


_Kind: TypeAlias = Literal["gone", "silent", "unreachable", "token", "missing", "foreign"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer."""

    kind: _Kind
    """`gone` where nothing listens (any more), `missing` where the agent or optimizer is not there (any more)."""
    words: str
    """Whole sentences, with the remedy."""


_FAULTS: Sequence[tuple[type[BaseException], _Kind, str]] = (
    (TimeoutError, "silent", "{url} took the question and did not answer: its process is suspended, or very busy."),
    (
        RemoteDisconnected,
        "gone",
        "{url} closed the connection without an answer: a run that is ending, or one that speaks https.",
    ),
    (
        ConnectionError,
        "gone",
        "Nothing listens at {url}. A run serves it from loopscope.attach on until it ends: its log names the address.",
    ),
    (
        ssl.SSLCertVerificationError,
        "unreachable",
        "The certificate of {url} is not trusted ({fault.verify_message}). Name the one to trust with --ca FILE.",
    ),
    (ssl.SSLError, "foreign", "What answers at {url} speaks no TLS: begin the address with http://."),
    (socket.gaierror, "unreachable", "The host of {url} is not known ({fault.strerror})."),
)
"""What the network can be at fault for; the first that fits counts."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the token is for this server."""

    def redirect_request(  # noqa: PLR0917 (the arguments are the base class's)
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Leave the redirection an error."""


class Client:
    """Asks one server; safe to use from one thread at a time."""

    def __init__(
        self,
        address: Address,
        *,
        token: str | None = None,
        ca: str | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.url = address.base
        self._answer_seconds = answer_seconds
        self._headers = {"Accept": "application/json"}
        token = token or address.token
        if token is not None:
            if not (token.isascii() and token.isprintable()):
                raise SettingError("token", "...", allowed="printable ASCII characters", remedy="Copy it once more.")
            self._headers["Authorization"] = f"Bearer {token}"
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        handlers += [urllib.request.HTTPSHandler(context=_context(ca))] if address.is_secure else []
        handlers += [urllib.request.ProxyHandler({})] if address.is_loopback else []
        self._opener = urllib.request.build_opener(*handlers)
        if ca is not None and not address.is_secure:
            raise SettingError(
                "ca", ca, allowed="a certificate for an address with https://", remedy="Leave it out, or use https."
            )

    def ask(self, query: Mapping[str, str]) -> Answer | Failure:
        """Return the answer to a query of /api/live; raises nothing that the network can be at fault for."""
        address = f"{self.url}/api/live?{urlencode(query)}"
        request = urllib.request.Request(address, headers=self._headers)  # noqa: S310 (Address has http or https)
        try:
            with self._opener.open(request, timeout=self._answer_seconds) as answer:
                body = answer.read(MAX_BYTES + 1)
        except HTTPError as refusal:
            return self._refused(refusal)
        except (OSError, HTTPException) as fault:
            return self._unanswered(fault.reason if isinstance(fault, URLError) else fault)
        return self._parsed(body)

    def _parsed(self, body: bytes) -> Answer | Failure:
        try:
            answer = json.loads(body) if len(body) <= MAX_BYTES else None
        except (ValueError, RecursionError):
            answer = None
        version = answer.get("version") if isinstance(answer, dict) else None
        if not isinstance(answer, dict) or not isinstance(answer.get("agent"), str) or not isinstance(version, int):
            return self._foreign("What answers")
        if version != VERSION:
            words = f"{self.url} speaks version {version} of the format, and this loopscope version {VERSION}."
            return Failure("foreign", f"{words} Install the same loopscope on both sides.")
        return answer

    def _refused(self, refusal: HTTPError) -> Failure:
        body = b""
        with refusal, suppress(OSError, HTTPException):
            body = refusal.read(_MAX_WORDS)
        said = _said(body)
        if refusal.code == 401:
            return Failure("token", f"{self.url} asks for the right token: give --token TOKEN, or set LOOPSCOPE_TOKEN.")
        if refusal.code == 404 and said is not None:
            return Failure("missing", said)
        if refusal.code == 403 and b"localhost" in body:
            words = "answers only to localhost: use http://127.0.0.1:PORT through `ssh -L`, or attach(host=...)."
            return Failure("foreign", f"{self.url} {words}")
        where = escape_controls(refusal.headers.get("Location") or "")
        if 300 <= refusal.code < 400 and where:
            return Failure("foreign", f"{self.url} leads elsewhere, to {where}: name that address if it is the run's.")
        return self._foreign(f"Status {refusal.code}")

    def _unanswered(self, fault: object) -> Failure:
        for kind, reason, words in _FAULTS:
            if isinstance(fault, kind):
                return Failure(reason, words.format(url=self.url, fault=fault))
        return Failure("unreachable", f"{self.url} cannot be reached ({fault}).")

    def _foreign(self, what: str) -> Failure:
        words = f"{what} at {self.url} is not the live view of a run: no loopscope, or an old one."
        return Failure("foreign", f"{words} Ask for the port in the run's log.")


def _said(body: bytes) -> str | None:
    """Return what a loopscope server said in JSON."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return escape_controls(said["error"]) if isinstance(said, dict) and "error" in said else None


def _context(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as fault:  # ssl.SSLError is one
        raise SettingError(
            "ca", ca, allowed="a PEM file with the certificate to trust", remedy=f"It could not be loaded: {fault}."
        ) from fault
