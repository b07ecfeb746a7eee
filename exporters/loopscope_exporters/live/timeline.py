"""The whole of one agent as the live page and `loopscope top` poll it, at /api/live: bounded, and only what is new."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from loopscope.catalog import PHASES
from loopscope.records import ActivityReport, EpochReport, Event, HealthReport, RunInfo, SelfReport, StepReport

from ..encoding import VERSION, encode
from ..yielding import Yielding
from .agents import Agents, AgentState
from .columns import columns, dump, rows, scalar
from .history import Slice
from .queries import BadQueryError, number, query, selected
from .state import encode_latest

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["PATH", "TimelinePage"]

PATH = "/api/live"
MAX_EVENT_CHARACTERS = 16_384
"""Of one event, as JSON. What a detector says is short; what a user's own one says, or quotes, need not be."""
_MAX_TEXT_CHARACTERS = 2_000


class TimelinePage:
    """The WSGI application behind /api/live, with agent, optimizer, width, first, event and epoch in its query.

    A reader gives back the `width` and the number of the last span of the history that it has (which goes on growing),
    and the numbers `next` of the events and epochs, and gets what has come since; all of it where the spans have
    become wider. See docs/live.md for the fields.
    """

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with what is new; 400 or 404 with the reason for what cannot be answered."""
        try:
            status, body = "200 OK", self._answer(query(environ))
        except BadQueryError as fault:
            status, body = fault.status, dump({"error": str(fault)})
        start_response(status, [("Content-Type", "application/json; charset=utf-8")])
        return [body.encode()]

    def _answer(self, asked: dict[str, str]) -> str:
        width, first, event, epoch = (number(asked, name) for name in ("width", "first", "event", "epoch"))
        name, state, optimizer = selected(self._agents, asked)
        history = state.history(optimizer, width, first)
        step, sampled = state.step(optimizer)  # after the history: where this has steps there is a latest one
        parts = {
            "version": dump(VERSION),
            "time_unix_seconds": dump(time.time()),
            "agents": dump(self._directory()),
            "agent": dump(name),
            "optimizer": dump(optimizer),
            "run": encode_latest(state.latest(RunInfo)),
            "step": encode_latest(step),
            "self": encode_latest(state.latest(SelfReport)),
            "activity": encode_latest(state.latest(ActivityReport)),
            "health": encode_latest(state.latest(HealthReport)),
            "layers": _layers(step, sampled),
            "history": _history(history),
            "events": _events(state, event),
            "epochs": _epochs(state, epoch),
        }
        return f"{{{','.join(f'{dump(key)}:{text}' for key, text in parts.items())}}}"

    def _directory(self) -> list[dict[str, object]]:
        return [{"agent": name, "optimizers": list(state.optimizers)} for name, state in self._agents.named().items()]


def _layers(step: StepReport | None, sampled: StepReport | None) -> str:
    """Return what is known of each layer: its norm at the latest step, the rest at the latest sampled one."""
    table = None if step is None else step.gradients
    if table is None:
        table = None if sampled is None else sampled.gradients
    if table is None:
        return "null"
    named = {"norm": np.where(table.layer_num_nonfinite > 0, np.inf, table.layer_norms)}
    of_sample = None if sampled is None else sampled.gradients
    sample = None if of_sample is None else of_sample.sample
    if sampled is None or of_sample is None or sample is None or of_sample.layers != table.layers:
        return f'{{"names":{dump(table.layers)},"sampled_step":null,"columns":{columns(named)}}}'
    named |= {
        "max_abs": sample.max_abs_G,
        "zero_ratio": sample.zero_ratio_G,
        "weight_norm": sample.weight_norms_G,
        "update_ratio": sample.update_ratios_G,
    }
    return f'{{"names":{dump(table.layers)},"sampled_step":{sampled.step},"columns":{columns(named)}}}'


def _history(part: Slice | None) -> str:
    if part is None:
        return "null"
    head = {
        "origin": part.origin,
        "width": part.width,
        "first": part.first,
        "num_spans": part.num_spans,
        "phases": PHASES,
        "layers": part.layers,
    }
    return f'{dump(head)[:-1]},"columns":{columns(part.columns)},"layer_norms":{rows(part.layer_norms_GS)}}}'


def _events(state: AgentState, since: int) -> str:
    recent = state.events(since)
    entries = ",".join(Yielding(partial(map, _event, recent.entries)))
    return f'{{"next":{recent.next},"entries":[{entries}]}}'


def _event(event: Event) -> str:
    """Return an event; of one that is too long its texts, cut, and of its attributes the incident."""
    text = encode(event)
    if len(text) <= MAX_EVENT_CHARACTERS:
        return text
    incident = {name: value for name, value in event.attributes.items() if name == "incident"}
    return encode(replace(event, message=_cut(event.message), remedy=_cut(event.remedy), attributes=incident))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT_CHARACTERS else f"{text[:_MAX_TEXT_CHARACTERS]}…"


def _epochs(state: AgentState, since: int) -> str:
    recent = state.epochs(since)
    return f'{{"next":{recent.next},"entries":[{",".join(Yielding(partial(map, _epoch, recent.entries)))}]}}'


def _epoch(report: EpochReport) -> str:
    """Return the whole of an epoch in a line; of its layers those that were not healthy."""
    table = report.gradients
    states = () if table is None else zip(table.layers, table.health, table.health_rule, strict=False)
    line = {
        "optimizer": report.optimizer,
        "kind": report.kind,
        "epoch": report.epoch,
        "window": report.window,
        "first_step": report.first_step,
        "last_step": report.last_step,
        "num_steps": report.num_steps,
        "num_nonfinite_steps": report.num_nonfinite_steps,
        "num_skipped": sum(report.num_skipped.values()),
        "time_unix_seconds": report.time_unix_seconds,
        "duration_seconds": scalar(report.duration_seconds),
        "loss": scalar(report.loss),
        "norm_mean": scalar(report.global_norm.get("mean")),
        "norm_max": scalar(report.global_norm.get("max")),
        "layers": {layer: [state, rule] for layer, state, rule in states if state != "healthy"},
    }
    return dump(line)
