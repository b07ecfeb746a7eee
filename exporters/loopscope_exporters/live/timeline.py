"""The whole of one agent as the live page and `loopscope top` poll it, at /api/live: bounded, and only what is new."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from loopscope.catalog import PHASES
from loopscope.records import ActivityReport, EpochReport, HealthReport, RunInfo, SelfReport, StepReport

from ..encoding import VERSION, encode
from .agents import Agents, AgentState
from .columns import columns, dump, rows, scalar
from .history import Slice
from .queries import BadQueryError, number, query, selected
from .state import encode_latest

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["PATH", "TimelinePage"]

PATH = "/api/live"


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
        step, sampled = state.step(optimizer)
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
            "history": _history(state.history(optimizer, width, first)),
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
    entries = ",".join(encode(event) for event in recent.entries)
    return f'{{"next":{recent.next},"entries":[{entries}]}}'


def _epochs(state: AgentState, since: int) -> str:
    recent = state.epochs(since)
    return f'{{"next":{recent.next},"entries":[{",".join(_epoch(report) for report in recent.entries)}]}}'


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
