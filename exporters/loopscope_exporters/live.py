"""Live: the latest step and epoch of every agent of a server, as JSON at /api/state."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from loopscope.records import ActivityReport, EpochReport, Event, HealthReport, Record, RunInfo, SelfReport, StepReport

from .encoding import VERSION, encode

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from .server import MetricsServer

__all__ = ["PATH", "LiveExporter", "StatePage"]

PATH = "/api/state"
MAX_EVENTS = 20


class AgentState:
    """The latest records of one agent; `add` on the worker thread, `encode` on any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: RunInfo | None = None
        self._step: StepReport | None = None
        self._epoch: EpochReport | None = None
        self._self: SelfReport | None = None
        self._activity: ActivityReport | None = None
        self._health: HealthReport | None = None
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)

    def add(self, record: Record) -> None:
        """Keep the record where it is the latest of its type; of events the latest 20."""
        with self._lock:
            if isinstance(record, StepReport):
                self._step = record
            elif isinstance(record, EpochReport):
                self._epoch = record
            elif isinstance(record, Event):
                self._events.append(record)
            elif isinstance(record, SelfReport):
                self._self = record
            elif isinstance(record, ActivityReport):
                self._activity = record
            elif isinstance(record, HealthReport):
                self._health = record
            else:
                self._run = record

    def encode(self) -> tuple[str | None, str]:
        """Return the agent's name (None before its first record) and its state as a JSON object.

        Layers are in it and parameters are not; what is unknown is null.
        """
        with self._lock:
            latest = {
                "run": self._run,
                "step": self._step,
                "epoch": self._epoch,
                "self": self._self,
                "activity": self._activity,
                "health": self._health,
            }
            events = list(self._events)
        parts = [f'"{key}":{_object(record)}' for key, record in latest.items()]
        parts.append(f'"events":[{",".join(encode(event) for event in events)}]')
        agent = next((record.agent for record in latest.values() if record is not None), None)
        return agent, f"{{{','.join(parts)}}}"


class LiveExporter:
    """Shows the latest state of one agent on the server's /api/state until it is closed; holds the server open."""

    name = "live"

    def __init__(self, server: MetricsServer) -> None:
        self._server = server
        self._state = AgentState()
        self._is_closed = False
        server.retain()
        self._page = server.share(PATH, StatePage)
        self._page.add(self._state)

    def export(self, record: Record) -> None:
        """Keep a reference to the record."""
        self._state.add(record)

    def flush(self) -> None:
        """Do nothing: a request sees every exported record."""

    def close(self) -> None:
        """Take the agent off the page and release the server; a second call does nothing.

        In a forked child, whose server was closed there, it takes no lock.
        """
        if self._is_closed or self._server.is_closed:
            return
        self._is_closed = True
        self._page.remove(self._state)
        self._server.release()


class StatePage:
    """The WSGI application behind /api/state: {"version": 1, "agents": {name: state}}.

    A state has the keys run, step, epoch, self, activity, health and events.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._agents: list[AgentState] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with the state of this moment."""
        with self._lock:
            agents = list(self._agents)
        texts = (state.encode() for state in agents)
        body = ",".join(f"{json.dumps(name)}:{text}" for name, text in texts if name is not None)
        start_response("200 OK", [("Content-Type", "application/json; charset=utf-8")])
        return [f'{{"version":{VERSION},"agents":{{{body}}}}}'.encode()]

    def add(self, state: AgentState) -> None:
        """Show one more agent."""
        with self._lock:
            self._agents.append(state)

    def remove(self, state: AgentState) -> None:
        """Show one agent no longer."""
        with self._lock:
            self._agents.remove(state)


def _object(record: Record | None) -> str:
    return "null" if record is None else encode(record, has_parameters=False)
