"""Records from JSON: what `encoding` has written, as the records that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from loopscope.catalog import METRICS
from loopscope.records import (
    ActivityReport,
    Anomaly,
    EpochReport,
    Event,
    GradientTable,
    HealthReport,
    HookCount,
    HookSilence,
    Integers,
    LayerState,
    NonfiniteOrigin,
    Record,
    RunInfo,
    StepReport,
    SyncCount,
)

from .columns import activations, floats, indices, integers, places, sample, statistics, texts
from .forms import Entry, Form, real

__all__ = ["Decoder"]

_MAX_KEPT = 16
"""Tables of names, one for each agent, rank and optimizer whose lines are mixed."""
_Names: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], Integers, tuple[int, ...]]
"""Layers, names, the layer's index of each, and which are frozen."""
_LABELS = {metric.name: metric.labels for metric in METRICS}

_STEP = Form(StepReport, "events", "learning_rates", "gradients", "activations", "hooks", "syncs", "origin")
_TABLE = Form(
    GradientTable,
    *("layers", "names", "layer_index_P", "norms", "layer_norms", "global_norm", "num_nonfinite", "frozen", "sample"),
)
_SYNC, _HOOK, _SILENCE = Form(SyncCount), Form(HookCount), Form(HookSilence)
_STATE, _EVENT = Form(LayerState), Form(Event)
_ORIGIN, _ANOMALY = Form(NonfiniteOrigin, "rows"), Form(Anomaly, "layers")
_EPOCH, _RUN = Form(EpochReport, "gradients"), Form(RunInfo, "layers")
_ACTIVITY, _HEALTH = Form(ActivityReport, "counters"), Form(HealthReport, "anomalies", "layers")


class Decoder:
    """Makes records of the objects that `jsonl.read` yields; keeps the tables of names, which lines share.

    Fields that the log does not have, of an older version, get their defaults, and what it has beyond them is left out.
    A statistic that was not known is NaN. Events are records of their own: `StepReport.events` is empty.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], tuple[object, _Names]] = {}
        """By the identities of lists that lines share: the lists, which thus stay, and what was made of them."""
        self._decoders: Mapping[str, Callable[[Entry], Record]] = {
            "run": _run,
            "step": self._step,
            "epoch": _epoch,
            "event": _EVENT.build,
            "activity": _activity,
            "health": _health,
        }

    def decode(self, entry: Entry) -> Record | None:
        """Return the record of one line, None for a type that this version does not know.

        Raises ArithmeticError, AttributeError, KeyError, TypeError or ValueError for a line that is not as its type
        has it.
        """
        decode = self._decoders.get(str(entry.get("type")))
        return None if decode is None else decode(entry)

    def _step(self, entry: Entry) -> StepReport:
        origin = entry.get("origin")
        return _STEP.build(
            entry,
            (),
            tuple(map(real, _list(entry["learning_rates"]))),
            self._table(entry["gradients"]),
            activations(entry.get("activations")),
            tuple(map(_hook, _list(entry.get("hooks", [])))),
            tuple(map(_SYNC.build, _list(entry.get("syncs", [])))),
            None if origin is None else _ORIGIN.build(origin, _rows(origin["rows"])),
        )

    def _table(self, entry: Entry | None) -> GradientTable | None:
        if entry is None or "names" not in entry:  # a log that begins in the middle
            return None
        layers, names, index_P, frozen = self._names(entry)
        return _TABLE.build(
            entry,
            layers,
            names,
            index_P,
            floats(entry["norms"], len(names)),
            floats(entry["layer_norms"], len(layers)),
            real(entry["global_norm"]),
            integers(entry["num_nonfinite"], len(names)),
            frozen,
            sample(entry.get("sample"), len(names), len(layers)),
        )

    def _names(self, entry: Entry) -> _Names:
        """Return what lines share, made once of the lists that they share."""
        lists = entry["layers"], entry["names"], entry["layer_index"], entry.get("frozen", ())
        key = (*map(id, lists),)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
            layers, names = texts(lists[0]), texts(lists[1])
            made = layers, names, indices(lists[2], len(names), len(layers)), places(lists[3], len(names))
            found = self._kept[key] = lists, made
        return found[1]


def _list(values: Any) -> list[Any]:
    if type(values) is not list:
        raise TypeError("a list has something else in its place")
    return values


def _rows(values: Sequence[int]) -> tuple[int, ...]:
    return tuple(integers(values, len(values)).tolist())


def _hook(entry: Entry) -> HookCount | HookSilence:
    return _SILENCE.build(entry) if "num_looks" in entry else _HOOK.build(entry)


def _epoch(entry: Entry) -> EpochReport:
    return _EPOCH.build(entry, statistics(entry["gradients"]))


def _run(entry: Entry) -> RunInfo:
    return _RUN.build(entry, texts(entry["layers"]))


def _activity(entry: Entry) -> ActivityReport:
    return _ACTIVITY.build(entry, _counters(entry["counters"]))


def _counters(rows: Sequence[Entry]) -> dict[str, dict[tuple[str, ...], float]]:
    counters: dict[str, dict[tuple[str, ...], float]] = {}
    for row in rows:
        names = _LABELS.get(row["name"])
        if names is not None:  # else of a later version
            labels = tuple(row["labels"][name] for name in names)
            counters.setdefault(row["name"], {})[labels] = real(row["value"])
    return counters


def _health(entry: Entry) -> HealthReport:
    anomalies = tuple(_ANOMALY.build(each, texts(each["layers"])) for each in entry["anomalies"])
    layers = {
        optimizer or None: {layer: _STATE.build(state) for layer, state in states.items()}
        for optimizer, states in entry["layers"].items()
    }
    return _HEALTH.build(entry, anomalies, layers)
