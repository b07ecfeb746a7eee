"""The exporter behind the live page: it keeps one agent's state on the server's paths until it is closed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from loopscope.records import Record

from .agents import AgentState
from .assets import ASSETS, Asset
from .parameters import PATH as PARAMETERS_PATH
from .parameters import ParametersPage
from .state import PATH as STATE_PATH
from .state import StatePage
from .timeline import PATH as TIMELINE_PATH
from .timeline import TimelinePage

if TYPE_CHECKING:
    from ..server import MetricsServer

__all__ = ["LiveExporter"]


class LiveExporter:
    """Shows one agent on /, /api/state, /api/live and /api/parameters until it is closed; holds the server open."""

    name = "live"

    def __init__(self, server: MetricsServer) -> None:
        self._server = server
        self._state = AgentState()
        self._is_closed = False
        server.retain()
        self._agents = agents = server.share(STATE_PATH, StatePage).agents
        server.share(TIMELINE_PATH, lambda: TimelinePage(agents))
        server.share(PARAMETERS_PATH, lambda: ParametersPage(agents))
        for path, name in ASSETS.items():
            server.share(path, partial(Asset, name), is_public=True)
        agents.add(self._state)

    def export(self, record: Record) -> None:
        """Keep a reference to the record."""
        self._state.add(record)

    def flush(self) -> None:
        """Do nothing: the history works steps in by itself, and a page that asks sees every exported record."""

    def close(self) -> None:
        """Take the agent off the pages and release the server; a second call does nothing.

        In a forked child, whose server was closed there, it takes no lock.
        """
        if self._is_closed or self._server.is_closed:
            return
        self._is_closed = True
        self._agents.remove(self._state)
        self._server.release()
