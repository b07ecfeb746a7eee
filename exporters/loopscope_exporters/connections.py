"""The listening socket and the connections of the metrics server: bounded in number and time, one thread each."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    import ssl
    from types import TracebackType
    from wsgiref.types import WSGIApplication

__all__ = ["HttpServer"]

MAX_CONNECTIONS = 32
"""Connections at a time; a further one is refused unless an old one has outstayed CONNECTION_SECONDS."""
CONNECTION_SECONDS = 10.0
"""Age at which a connection has to give way to a new one: a client that drips its bytes holds no place for ever."""
READ_SECONDS = 5.0
"""Longest wait for a client's next bytes."""

_logger = logging.getLogger("loopscope")


class _Answer(ServerHandler):
    """One answer; what fails inside goes to the server's count instead of stderr."""

    server_software = "loopscope"
    faults: HttpServer

    def log_exception(self, exc_info: tuple[type[BaseException], BaseException, TracebackType] | Any) -> None:
        if not isinstance(exc_info[1], TimeoutError):
            self.faults.note(exc_info[1])


class _RequestHandler(WSGIRequestHandler):
    """Reads one request of a connection and answers it, without a log line."""

    timeout = READ_SECONDS
    server: HttpServer

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(65_537)
        if len(self.raw_requestline) > 65_536:
            self.requestline, self.request_version, self.command = "", "", ""
            self.send_error(414)
        elif self.raw_requestline and self.parse_request():
            answer = _Answer(
                self.rfile,
                self.wfile,  # type: ignore[arg-type]  # typeshed asks for more than wsgiref needs
                self.get_stderr(),
                self.get_environ(),
                multithread=True,
            )
            answer.faults = self.server
            answer.request_handler = self  # type: ignore[attr-defined]  # wsgiref's own back-pointer
            application = self.server.get_app()
            assert application is not None
            answer.run(application)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name of the base class)
        """Say nothing: a scrape is no news."""


class HttpServer(ThreadingMixIn, WSGIServer):
    """A WSGI server with one daemon thread a connection, which counts their CPU time and can end them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(
        self,
        family: socket.AddressFamily,
        address: tuple[str, int],
        application: WSGIApplication,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address_family = family
        self._tls = tls
        self.cpu_seconds = 0.0
        self.num_faults = 0
        self._connections: dict[socket.socket, float] = {}
        self._serving: set[threading.Thread] = set()
        self._state = threading.Lock()
        super().__init__(address, _RequestHandler)
        self.socket.setblocking(False)
        self.set_app(application)

    def server_bind(self) -> None:
        """Bind without the base class's name look-up, which waits for DNS."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; where that fails for want of descriptors, rest a little instead of spinning.

        The handshake of TLS is left to the connection's own thread: a client that never begins one holds up nobody.
        """
        try:
            connection, address = super().get_request()
        except BlockingIOError:
            raise
        except OSError:
            time.sleep(0.1)
            raise
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take the connection if there is room, ending those that have outstayed their time."""
        now = time.monotonic()
        with self._state:
            if len(self._connections) >= MAX_CONNECTIONS:
                for connection, start in self._connections.items():
                    if now - start > CONNECTION_SECONDS:
                        _shut(connection, socket.SHUT_RDWR)
                return False
            self._connections[request] = now
            return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection on its own thread, and count the thread's CPU time."""
        thread = threading.current_thread()
        with self._state:
            self._serving.add(thread)
        super().process_request_thread(request, client_address)
        with self._state:
            self._serving.discard(thread)
            self.cpu_seconds += time.thread_time()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        with self._state:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note what a connection died of; a client that goes away or falls silent is no fault."""
        fault = sys.exc_info()[1]
        if fault is not None and not isinstance(fault, OSError):
            self.note(fault)

    def note(self, fault: BaseException) -> None:
        """Count a fault and log the first."""
        self.num_faults += 1
        if self.num_faults == 1:
            _logger.warning("loopscope: fault in the server, training goes on: %r", fault, exc_info=fault)

    def end_connections(self, deadline: float) -> None:
        """Let answers under way finish, cut off the rest, and join their threads until `deadline` (monotonic)."""
        half = (time.monotonic() + deadline) / 2
        for how, until in ((socket.SHUT_RD, half), (socket.SHUT_RDWR, deadline)):
            with self._state:
                threads = list(self._serving)
                for connection in self._connections:
                    _shut(connection, how)
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))

    def close_in_child(self) -> None:
        """After a fork, in the child: close the inherited descriptors without a lock and without a farewell."""
        self._state = threading.Lock()
        self.socket.close()
        for connection in list(self._connections):
            connection.close()
        self._connections.clear()
        self._serving.clear()


def _shut(connection: socket.socket, how: int) -> None:
    with suppress(OSError):  # of the socket below TLS: an SSLSocket would go on in plain text
        socket.socket.shutdown(connection, how)
