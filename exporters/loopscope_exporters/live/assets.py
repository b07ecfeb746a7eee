"""The files of the live page: they come from the package, hold no data of any run, and load nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["ASSETS", "Asset"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_NAMES = (
    "page.css",
    "icon.svg",
    "main.js",
    "charts.js",
    "client.js",
    "curves.js",
    "dom.js",
    "epochs.js",
    "events.js",
    "format.js",
    "glance.js",
    "heatmap.js",
    "incidents.js",
    "layers.js",
    "lines.js",
    "ramp.js",
    "store.js",
    "table.js",
    "uplot/uPlot.esm.js",
    "uplot/uPlot.min.css",
)
ASSETS = {"/": "index.html"} | {f"/page/{name}": name for name in _NAMES}
"""The file of each path."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing runs, and nothing is asked for, but what this server itself has sent as a file."""


class Asset:
    """The WSGI application behind one file."""

    def __init__(self, name: str) -> None:
        self._body = (files(__package__) / "page" / name).read_bytes()
        self._headers = [
            ("Content-Type", _TYPES[name.rpartition(".")[2]]),
            ("Content-Security-Policy", _POLICY),
            ("Referrer-Policy", "no-referrer"),
        ]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with the file."""
        start_response("200 OK", list(self._headers))
        return [self._body]
