"""The latest step and epoch of every agent of a server, as JSON at /api/state: for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from loopscope.records import ActivityReport, EpochReport, HealthReport, Record, RunInfo, SelfReport, StepReport

from ..encoding import VERSION, encode
from .agents import Agents, AgentState

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["PATH", "StatePage", "encode_latest"]

PATH = "/api/state"
MAX_EVENTS = 20
_KINDS: Mapping[str, type[Record]] = {
    "run": RunInfo,
    "step": StepReport,
    "epoch": EpochReport,
    "self": SelfReport,
    "activity": ActivityReport,
    "health": HealthReport,
}


class StatePage:
    """The WSGI application behind /api/state: {"version": 1, "agents": {name: state}}.

    A state has the keys run, step, epoch, self, activity, health and events, of which these are the last 20.
    """

    def __init__(self) -> None:
        self.agents = Agents()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with the state of this moment."""
        body = ",".join(f"{json.dumps(name)}:{_encode(state)}" for name, state in self.agents.named().items())
        start_response("200 OK", [("Content-Type", "application/json; charset=utf-8")])
        return [f'{{"version":{VERSION},"agents":{{{body}}}}}'.encode()]


def encode_latest(record: Record | None) -> str:
    """Return a record as a JSON object in which layers are and parameters are not; null for None."""
    return "null" if record is None else encode(record, has_parameters=False)


def _encode(state: AgentState) -> str:
    parts = [f'"{key}":{encode_latest(state.latest(kind))}' for key, kind in _KINDS.items()]
    events = ",".join(encode(event) for event in state.events(0).entries[-MAX_EVENTS:])
    return f'{{{",".join(parts)},"events":[{events}]}}'
