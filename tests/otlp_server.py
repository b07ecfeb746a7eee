"""The process of `tests.otlp_receiver`: `python otlp_server.py grpc|http ADDRESS [CERTIFICATE KEY]`.

It prints its port, then a line of JSON a request; a line of JSON on its standard input says how to answer from then on.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

__all__: list[str] = []

ANSWERS = {
    "metrics": metrics_service_pb2.ExportMetricsServiceResponse,
    "logs": logs_service_pb2.ExportLogsServiceResponse,
    "traces": trace_service_pb2.ExportTraceServiceResponse,
}


class _Manner:
    """How requests are answered at the moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.how: dict[str, Any] = {}

    def of(self, signal: str) -> dict[str, Any]:
        how = self.how
        return how if how.get("signal", signal) == signal else {}

    def note(self, signal: str, body: bytes, *, headers: Mapping[str, str], **values: Any) -> None:
        entry = {"signal": signal, "headers": dict(headers), "body": base64.b64encode(body).decode(), **values}
        self.tell(entry)

    def tell(self, entry: Mapping[str, Any]) -> None:
        with self._lock:  # of all threads: a long line is written in pieces
            print(json.dumps(entry), flush=True)

    def body(self, signal: str) -> bytes:
        answer, rejected = ANSWERS[signal](), self.of(signal).get("rejected", 0)
        field = {"metrics": "rejected_data_points", "logs": "rejected_log_records", "traces": "rejected_spans"}[signal]
        if rejected:
            setattr(answer.partial_success, field, rejected)
            answer.partial_success.error_message = "too old"
        return answer.SerializeToString()


def _serve_grpc(address: str, tls: Sequence[str], manner: _Manner) -> int:
    import grpc
    from google.rpc import error_details_pb2, status_pb2

    services = {
        "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
        "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
        "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    }

    def handler(signal: str) -> Callable[[bytes, Any], bytes]:
        def export(request: bytes, context: Any) -> bytes:
            how = manner.of(signal)
            time.sleep(how.get("delay", 0))
            status = how.get("status")
            headers = dict(context.invocation_metadata())
            manner.note(signal, request, headers=headers, path="", is_taken=status is None, num_bytes=len(request))
            if status is not None:
                code = grpc.StatusCode[status]
                if "retry_after" in how:
                    info = error_details_pb2.RetryInfo()
                    info.retry_delay.FromNanoseconds(int(how["retry_after"] * 1e9))
                    details = status_pb2.Status(code=code.value[0])
                    details.details.add().Pack(info)
                    context.set_trailing_metadata((("grpc-status-details-bin", details.SerializeToString()),))
                context.abort(code, "as asked, 100 %")
            return manner.body(signal)

        return export

    server = grpc.server(futures.ThreadPoolExecutor(8))
    for signal, service in services.items():
        methods = {"Export": grpc.unary_unary_rpc_method_handler(handler(signal))}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    if tls:
        certificate, key = (Path(path).read_bytes() for path in tls)
        port = server.add_secure_port(address, grpc.ssl_server_credentials(((key, certificate),)))
    else:
        port = server.add_insecure_port(address)
    server.start()
    globals()["_server"] = server  # alive as long as the process
    return port


def _serve_http(address: str, tls: Sequence[str], manner: _Manner) -> int:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            signal = next(name for name in (*ANSWERS, "metrics") if name in self.path)
            how = manner.of(signal)
            time.sleep(how.get("delay", 0))
            status = how.get("status", 200)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = gzip.decompress(sent) if headers.get("content-encoding") == "gzip" else sent
            manner.note(signal, body, headers=headers, path=self.path, is_taken=status == 200, num_bytes=len(sent))
            answer = manner.body(signal) if status == 200 else b""
            self.send_response(status)
            if "retry_after" in how:
                self.send_header("Retry-After", str(how["retry_after"]))
            if "location" in how:
                self.send_header("Location", how["location"])
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    class UnixServer(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

        def get_request(self) -> tuple[Any, Any]:
            request, _ = super().get_request()
            return request, ("unix", 0)

    if address.startswith("unix:"):
        server: Any = UnixServer(address.removeprefix("unix:").removeprefix("//"), Handler)
    else:
        host, _, port = address.rpartition(":")
        server = ThreadingHTTPServer((host, int(port)), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return 0 if address.startswith("unix:") else server.server_address[1]


def _main(protocol: str, address: str, *tls: str) -> None:
    manner = _Manner()
    port = (_serve_grpc if protocol == "grpc" else _serve_http)(address, tls, manner)
    print(port, flush=True)
    for line in sys.stdin:
        manner.how = json.loads(line)
        manner.tell({})
    os._exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
