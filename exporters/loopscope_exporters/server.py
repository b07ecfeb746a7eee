"""One HTTP server for all agents of a process: GET and HEAD on a table of paths, loopback unless opened."""

from __future__ import annotations

import errno
import gzip
import ipaddress
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar, cast

from prometheus_client.exposition import gzip_accepted

from loopscope.errors import SettingError

from .connections import HttpServer
from .security import Security

if TYPE_CHECKING:
    import ssl
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["MetricsServer"]

MAX_PORTS_TRIED = 100
"""Ports after the one asked for that are tried when it is taken."""
CLOSE_SECONDS = 0.8
"""Longest time that the last `release` takes: half for answers under way, half for those that hang."""
MIN_COMPRESSED_BYTES = 1_024

_T = TypeVar("_T", bound=Callable[..., Iterable[bytes]])
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
_logger = logging.getLogger("loopscope")


class MetricsServer:
    """Serves paths to WSGI applications, on its own daemon threads, from construction to the last `release`.

    Every holder calls `retain` once and `release` once. A port that is taken gives way to the next free one (logged
    as a warning); port 0 means any. A host or port that cannot be bound is a SettingError. Bound to loopback, it
    answers only requests that name a loopback host, so that no web page can reach it by DNS rebinding.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 9464, security: Security | None = None) -> None:
        self._host, self._security = host, security or Security()
        self._http = _bind(host, port, self._answer, self._security.context())
        self.port: int = self._http.server_address[1]
        self._is_loopback = self._address.is_loopback
        self._routes: dict[str, WSGIApplication] = {"/healthz": _healthz}
        self._public = {"/healthz"}
        """Paths without a token: whether the process is alive is asked by those who have none."""
        self._lock = threading.Lock()
        self._num_holders = 0
        self._is_closed = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._accept_cpu_seconds = 0.0
        self._thread = threading.Thread(target=self._accept, name="loopscope-server", daemon=True)
        self._thread.start()
        if port in (0, self.port):
            _logger.info("loopscope: serving on %s", self.url)
        else:
            _logger.warning("loopscope: port %d is taken, serving on %s instead", port, self.url)
        if not self._is_loopback and self._security.is_open:
            _logger.warning(
                "loopscope: everybody who reaches %s can read this run; set token, or tls_certificate and tls_key",
                self.url,
            )

    @property
    def url(self) -> str:
        """Address without a path; loopback where the server is bound to every interface."""
        address = self._address
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        name = f"[{address}]" if address.version == 6 else str(address)
        return f"{self.scheme}://{name}:{self.port}"

    @property
    def scheme(self) -> str:
        """`http`, or `https` with a certificate."""
        return self._security.scheme

    @property
    def target(self) -> str:
        """Host and port for a scraper: this host's name where the server is bound to every interface."""
        if self._address.is_unspecified:
            return f"{socket.gethostname()}:{self.port}"
        return self.url.partition("://")[2]

    @property
    def _address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return ipaddress.ip_address(str(self._http.server_address[0]).split("%")[0])

    @property
    def is_closed(self) -> bool:
        """Whether the last holder has let go; a closed server stays closed."""
        return self._is_closed

    @property
    def cpu_seconds(self) -> float:
        """CPU time that all answers have taken so far; any thread."""
        return self._accept_cpu_seconds + self._http.cpu_seconds

    @property
    def num_faults(self) -> int:
        """Requests that failed inside a handler; the client got a 500 and the first was logged."""
        return self._http.num_faults

    def add(self, path: str, handler: WSGIApplication) -> None:
        """Answer GET and HEAD of `path` by a WSGI application (which sees only GET), in place of an earlier one."""
        with self._lock:
            self._routes[path] = handler

    def share(self, path: str, factory: Callable[[], _T], *, is_public: bool = False) -> _T:
        """Return the handler at `path`, made by `factory` for the first who asks: several agents, one page.

        A public path needs no token; what it says must be nothing of the run.
        """
        with self._lock:
            if path not in self._routes:
                self._routes[path] = cast("WSGIApplication", factory())
                self._public |= {path} if is_public else set()
            return cast(_T, self._routes[path])

    def remove(self, path: str) -> None:
        """Stop answering `path`; a path that is not there is left alone."""
        with self._lock:
            self._routes.pop(path, None)
            self._public.discard(path)

    def retain(self) -> None:
        """Hold the server open until the matching `release`."""
        with self._lock:
            assert not self._is_closed, "a closed server cannot be retained; make a new one"
            self._num_holders += 1

    def release(self) -> None:
        """Let go; the last holder's call closes the socket and ends the threads, within CLOSE_SECONDS.

        It also closes a server that nobody has retained; on a closed one it does nothing.
        """
        with self._lock:
            self._num_holders -= 1
            if self._num_holders > 0 or self._is_closed:
                return
            self._is_closed = True
        self._close()

    def close_in_child(self) -> None:
        """After a fork, in the child: close the inherited sockets and do nothing else, take no lock, join nothing."""
        self._is_closed = True
        self._lock = threading.Lock()
        self._http.close_in_child()
        self._wake_reader.close()
        self._wake_writer.close()

    def _close(self) -> None:
        deadline = time.monotonic() + CLOSE_SECONDS
        self._wake_writer.close()
        self._thread.join(CLOSE_SECONDS / 2)
        self._http.server_close()
        self._http.end_connections(deadline)
        self._wake_reader.close()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._http.socket, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while not self._is_closed:
                selector.select()
                if not self._is_closed:
                    self._http.handle_request()
                    self._accept_cpu_seconds = time.thread_time()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = self._route(environ)
        if len(body) >= MIN_COMPRESSED_BYTES and gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers = [*headers, ("Content-Encoding", "gzip")]
        start_response(status, [*headers, *_HEADERS, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _route(self, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes]:
        if not self._is_host_allowed(environ.get("HTTP_HOST")):
            return _text("403 Forbidden", "this server answers only to localhost")
        if environ["PATH_INFO"] not in self._public and not self._security.admits(environ):
            status, headers, body = _text("401 Unauthorized", "give the header Authorization: Bearer TOKEN")
            return status, [*headers, ("WWW-Authenticate", "Bearer")], body
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            status, headers, body = _text("405 Method Not Allowed", "use GET or HEAD")
            return status, [*headers, ("Allow", "GET, HEAD")], body
        handler = self._routes.get(environ["PATH_INFO"])
        if handler is None:
            return _text("404 Not Found", f"there are {', '.join(sorted(self._routes.copy()))}")
        return _run(handler, {**environ, "REQUEST_METHOD": "GET"})

    def _is_host_allowed(self, header: str | None) -> bool:
        # Every browser sends Host, so that its absence is no attack by DNS rebinding.
        if not self._is_loopback or header is None:
            return True
        name = header.strip().lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        return name in _LOOPBACK_NAMES or name == self._host.lower()


def _bind(host: str, port: int, application: WSGIApplication, tls: ssl.SSLContext | None) -> HttpServer:
    family, address = _resolve(host)
    for candidate in (port,) if port == 0 else range(port, min(port + MAX_PORTS_TRIED, 65_535) + 1):
        try:
            return HttpServer(family, (address, candidate), application, tls)
        except OSError as fault:
            if fault.errno == errno.EADDRINUSE:
                continue
            if fault.errno == errno.EACCES:
                raise SettingError(
                    "port", port, allowed="a port that this user may bind", remedy="Use 9464, or 0 for any."
                ) from fault
            raise _wrong_host(host, fault) from fault
    raise SettingError(
        "port", port, allowed=f"a port with a free one among the next {MAX_PORTS_TRIED}", remedy="Use 0 for any."
    )


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as fault:
        raise _wrong_host(host, fault) from fault
    # IPv4 first: that is where scrapers look for `localhost`.
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    return found[0][0], str(found[0][4][0])


def _wrong_host(host: str, fault: Exception) -> SettingError:
    return SettingError(
        "host",
        host,
        allowed="an address of this machine",
        remedy=f"Use 127.0.0.1, or 0.0.0.0 for every interface ({fault}).",
    )


def _run(handler: WSGIApplication, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes]:
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _fault: object = None, /
    ) -> Callable[[bytes], object]:
        started.append((status, headers))
        return written.append

    returned = list(handler(environ, cast("StartResponse", start_response)))
    body = b"".join([*written, *returned])
    status, headers = started[-1]
    return status, headers, body


def _text(status: str, text: str) -> tuple[str, list[tuple[str, str]], bytes]:
    return status, [("Content-Type", "text/plain; charset=utf-8")], f"{text}\n".encode()


def _healthz(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    status, headers, body = _text("200 OK", "ok")
    start_response(status, headers)
    return iter([body])
