"""What is known of one agent's run: answers merged one after the other, and the question that gets what is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .client import Answer
from .history import History, merged
from .reading import column, entries, mapping, real, sequence, text, whole

__all__ = ["LayerTable", "State", "merge"]

MAX_EVENTS = 300
MAX_EPOCHS = 20
_LAYER_COLUMNS = ("norm", "zero_ratio", "update_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTable:
    """What the latest step, and the latest sampled one, know of each layer; see History for NaN and infinity."""

    names: Sequence[str]
    columns: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One agent's run. Records are as the log has them (docs/jsonl.md), empty before the first of their type."""

    agent: str
    optimizer: str | None
    agents: Sequence[Mapping[str, Any]]
    server_seconds: float | None
    """The host's clock at the answer."""
    run: Mapping[str, Any]
    step: Mapping[str, Any]
    itself: Mapping[str, Any]
    """What the agent says of itself."""
    activity: Mapping[str, Any]
    health: Mapping[str, Any]
    layers: LayerTable
    history: History
    events: Sequence[dict[str, Any]]
    """The oldest first."""
    epochs: Sequence[Mapping[str, Any]]
    next_event: int
    next_epoch: int

    @property
    def identity(self) -> tuple[object, ...]:
        """What is another one where the run, or what is looked at of it, is another one."""
        attached = (self.run.get(name) for name in ("run", "host", "pid", "time_unix_seconds"))
        return (self.agent, self.optimizer, *map(str, attached))

    @property
    def query(self) -> Mapping[str, str]:
        """What asks for the news of this very agent."""
        cursor = {
            "width": self.history.width,
            "first": max(self.history.num_spans - 1, 0),
            "event": self.next_event,
            "epoch": self.next_epoch,
        }
        whom = {"agent": self.agent} | ({} if self.optimizer is None else {"optimizer": self.optimizer})
        return whom | {name: str(number) for name, number in cursor.items()}


def merge(known: State | None, answer: Answer) -> State | None:
    """Return what is known after an answer to the question of `known` (to one without numbers where that is None).

    None where the answer is of another run, or of steps that are not known: it has to be asked for from the start.
    """
    fresh = _read(answer)
    if known is None:
        return fresh
    history = merged(known.history, answer.get("history"))
    is_another = fresh.identity != known.identity or history is None
    if is_another or fresh.next_event < known.next_event or fresh.next_epoch < known.next_epoch:
        return None
    assert history is not None
    return replace(
        fresh,
        history=history,
        events=[*known.events, *fresh.events][-MAX_EVENTS:],
        epochs=[*known.epochs, *fresh.epochs][-MAX_EPOCHS:],
    )


def _read(answer: Answer) -> State:
    optimizer = answer.get("optimizer")
    events, epochs = mapping(answer.get("events")), mapping(answer.get("epochs"))
    layers = mapping(answer.get("layers"))
    names = [text(name) for name in sequence(layers.get("names"))]
    columns = mapping(layers.get("columns"))
    return State(
        agent=text(answer.get("agent")),
        optimizer=optimizer if isinstance(optimizer, str) else None,
        agents=entries(answer.get("agents")),
        server_seconds=real(answer.get("time_unix_seconds")),
        run=mapping(answer.get("run")),
        step=mapping(answer.get("step")),
        itself=mapping(answer.get("self")),
        activity=mapping(answer.get("activity")),
        health=mapping(answer.get("health")),
        layers=LayerTable(
            names=names, columns={name: column(columns.get(name), len(names)) for name in _LAYER_COLUMNS}
        ),
        history=merged(History(), answer.get("history")) or History(),
        events=[_event(entry) for entry in entries(events.get("entries"))][-MAX_EVENTS:],
        epochs=entries(epochs.get("entries"))[-MAX_EPOCHS:],
        next_event=whole(events.get("next")),
        next_epoch=whole(epochs.get("next")),
    )


def _event(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event whose step is a number, and whose texts are such: what groups events takes them for keys."""
    attributes = dict(mapping(entry.get("attributes")))
    if not isinstance(attributes.get("incident"), int):
        attributes.pop("incident", None)
    texts = {name: text(entry.get(name)) for name in ("kind", "severity", "message", "remedy")}
    places = {name: text(entry.get(name)) or None for name in ("layer", "site", "optimizer")}
    return {**entry, **texts, **places, "step": whole(entry.get("step")), "attributes": attributes}
