"""A server with one run on it, for tests of what looks at it; and servers that answer what none of ours would."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

from loopscope.records import Record
from loopscope.top import Client, parse
from loopscope_exporters.live import LiveExporter
from loopscope_exporters.security import Security
from loopscope_exporters.server import MetricsServer

__all__ = ["client", "free_port", "serving", "stranger"]


@contextlib.contextmanager
def serving(*records: Record, port: int = 0, security: Security | None = None) -> Iterator[tuple[str, LiveExporter]]:
    """Serve these records; more of them can be given to the exporter."""
    server = MetricsServer(port=port, security=security)
    exporter = LiveExporter(server)
    try:
        for record in records:
            exporter.export(record)
        yield server.url, exporter
    finally:
        exporter.close()


@contextlib.contextmanager
def stranger(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Iterator[str]:
    """Answer every question with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is http.server's
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def client(url: str, **settings: object) -> Client:
    """Return what asks that address."""
    return Client(parse(url), **settings)  # type: ignore[arg-type] # passed on


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])
