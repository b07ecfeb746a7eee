"""Records from JSON: what `encoding` has written, as the records that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from loopscope.catalog import metric
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
from .forms import Entry, build, real

__all__ = ["Decoder"]

_MAX_KEPT = 64
_Names: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], Integers, tuple[int, ...]]
"""Layers, names, the layer's index of each, and which are frozen."""


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
            "epoch": self._epoch,
            "event": _event,
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
        return build(
            StepReport,
            entry,
            events=(),
            learning_rates=tuple(map(real, entry["learning_rates"])),
            gradients=self._table(entry["gradients"]),
            activations=activations(entry.get("activations")),
            hooks=tuple(map(_hook, entry.get("hooks", ()))),
            syncs=tuple(map(_sync, entry.get("syncs", ()))),
            origin=_origin(entry.get("origin")),
        )

    def _epoch(self, entry: Entry) -> EpochReport:
        return build(EpochReport, entry, gradients=statistics(entry["gradients"]))

    def _table(self, entry: Entry | None) -> GradientTable | None:
        if entry is None or "names" not in entry:  # a log that begins in the middle
            return None
        layers, names, index_P, frozen = self._names(entry)
        return build(
            GradientTable,
            entry,
            layers=layers,
            names=names,
            layer_index_P=index_P,
            norms=floats(entry["norms"], len(names)),
            layer_norms=floats(entry["layer_norms"], len(layers)),
            global_norm=real(entry["global_norm"]),
            num_nonfinite=integers(entry["num_nonfinite"], len(names)),
            frozen=frozen,
            sample=sample(entry.get("sample"), len(names), len(layers)),
        )

    def _names(self, entry: Entry) -> _Names:
        """Return what lines share, made once of the lists that they share."""
        lists = entry["layers"], entry["names"], entry["layer_index"], entry.get("frozen", ())
        key = (*map(id, lists),)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            layers, names = texts(lists[0]), texts(lists[1])
            made = layers, names, indices(lists[2], len(names), len(layers)), places(lists[3], len(names))
            found = self._kept[key] = lists, made
        return found[1]


def _sync(entry: Entry) -> SyncCount:
    return build(SyncCount, entry)


def _origin(entry: Entry | None) -> NonfiniteOrigin | None:
    if entry is None:
        return None
    return build(NonfiniteOrigin, entry, rows=tuple(integers(entry["rows"], len(entry["rows"])).tolist()))


def _hook(entry: Entry) -> HookCount | HookSilence:
    if "num_looks" in entry:
        return build(HookSilence, entry)
    return build(HookCount, entry)


def _run(entry: Entry) -> RunInfo:
    return build(RunInfo, entry, layers=texts(entry["layers"]))


def _event(entry: Entry) -> Event:
    return build(Event, entry)


def _activity(entry: Entry) -> ActivityReport:
    return build(ActivityReport, entry, counters=_counters(entry["counters"]))


def _counters(rows: Sequence[Entry]) -> dict[str, dict[tuple[str, ...], float]]:
    counters: dict[str, dict[tuple[str, ...], float]] = {}
    for row in rows:
        labels = tuple(row["labels"][name] for name in metric(row["name"]).labels)
        counters.setdefault(row["name"], {})[labels] = real(row["value"])
    return counters


def _health(entry: Entry) -> HealthReport:
    anomalies = tuple(build(Anomaly, each, layers=texts(each["layers"])) for each in entry["anomalies"])
    layers = {
        optimizer or None: {layer: build(LayerState, state) for layer, state in states.items()}
        for optimizer, states in entry["layers"].items()
    }
    return build(HealthReport, entry, anomalies=anomalies, layers=layers)
