"""Records from JSON: what `encoding` has written, as the records that it was made from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from loopscope.catalog import metric
from loopscope.records import (
    ActivationTable,
    ActivityReport,
    Anomaly,
    EpochReport,
    Event,
    GradientSample,
    GradientTable,
    HealthReport,
    HookCount,
    HookSilence,
    LayerState,
    LayerStatistics,
    NonfiniteOrigin,
    Record,
    RunInfo,
    StepReport,
    SyncCount,
)

__all__ = ["Decoder"]

_TEXTS = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
_FLOATS = ("loss", "duration_seconds", "grad_scale", "value", "threshold", "global_norm", "global_norm_pre_clip")
_Entry = Mapping[str, Any]


class Decoder:
    """Makes records of the objects that `jsonl.read` yields; keeps the tables of names, which lines share.

    Fields that the log does not have, of an older version, get their defaults, and what it has beyond them is left out.
    A statistic that was not known is NaN. Events are records of their own: `StepReport.events` is empty.
    """

    def __init__(self) -> None:
        self._tuples: dict[int, tuple[object, tuple[Any, ...]]] = {}
        self._indices: dict[int, tuple[object, Any]] = {}
        self._decoders: Mapping[str, Callable[[_Entry], Record]] = {
            "run": _run,
            "step": self._step,
            "epoch": self._epoch,
            "event": _event,
            "activity": _activity,
            "health": _health,
        }

    def decode(self, entry: _Entry) -> Record | None:
        """Return the record of one line, None for a type that this version does not know.

        Raises ArithmeticError, AttributeError, KeyError, TypeError or ValueError for a line that is not as its type
        has it.
        """
        decode = self._decoders.get(str(entry.get("type")))
        return None if decode is None else decode(entry)

    def _step(self, entry: _Entry) -> StepReport:
        origin = entry.get("origin")
        return StepReport(
            **_known(
                StepReport,
                entry,
                learning_rates=tuple(entry["learning_rates"]),
                gradients=self._table(entry["gradients"]),
                activations=_activations(entry.get("activations")),
                hooks=tuple(_hook(each) for each in entry.get("hooks", ())),
                syncs=tuple(SyncCount(**_known(SyncCount, sync)) for sync in entry.get("syncs", ())),
                origin=origin and NonfiniteOrigin(**_known(NonfiniteOrigin, origin, rows=tuple(origin["rows"]))),
            )
        )

    def _epoch(self, entry: _Entry) -> EpochReport:
        return EpochReport(**_known(EpochReport, entry, gradients=_statistics(entry["gradients"])))

    def _table(self, entry: _Entry | None) -> GradientTable | None:
        if entry is None or "names" not in entry:  # a log that begins in the middle
            return None
        layers, names = self._tuple(entry["layers"]), self._tuple(entry["names"])
        values = _known(GradientTable, entry, layers=layers, names=names, frozen=tuple(entry.get("frozen", ())))
        values |= {name: _column(entry[name]) for name in ("norms", "layer_norms")}
        values["num_nonfinite"] = np.array(entry["num_nonfinite"], dtype=np.int64)
        values["layer_index_P"] = self._index(entry["layer_index"])
        values["global_norm"] = np.nan if values["global_norm"] is None else values["global_norm"]
        values["sample"] = _sample(entry.get("sample"))
        return GradientTable(**values)

    def _tuple(self, texts: Sequence[str]) -> tuple[str, ...]:
        known = self._tuples.get(id(texts))
        if known is None or known[0] is not texts:
            self._forget_many()
            known = self._tuples[id(texts)] = (texts, tuple(texts))
        return known[1]

    def _index(self, numbers: Sequence[int]) -> Any:
        known = self._indices.get(id(numbers))
        if known is None or known[0] is not numbers:
            self._forget_many()
            known = self._indices[id(numbers)] = (numbers, np.array(numbers, dtype=np.int64))
        return known[1]

    def _forget_many(self) -> None:
        for memory in (self._tuples, self._indices):
            if len(memory) > 64:
                memory.clear()


def _known(record: Any, entry: _Entry, **values: Any) -> dict[str, Any]:
    """Return the fields that the record has, `values` winning, with texts that stand for numbers as numbers."""
    names, floats = _names(record)
    known = {name: value for name, value in entry.items() if name in names}
    for name in floats:
        if isinstance(known.get(name), str):
            known[name] = _TEXTS[known[name]]
    known.update(values)
    return known


@functools.cache
def _names(record: Any) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the fields of a record, and those among them that may be texts for what is no finite number."""
    names = frozenset(field.name for field in fields(record) if field.init)
    return names, tuple(name for name in _FLOATS if name in names)


def _column(values: Sequence[Any]) -> Any:
    """Return float64; null is NaN, and NumPy reads the texts of what is not finite."""
    return np.array(values, dtype=np.float64)


def _statistics(entry: _Entry | None) -> LayerStatistics | None:
    if entry is None:
        return None
    columns = {name: _column(entry[name]) for name in ("mean", "max", "min", "p50", "p95", "zero_ratio")}
    columns |= {name: np.array(entry[name], dtype=np.int64) for name in ("num_steps", "num_nonfinite_steps")}
    columns |= {name: tuple(entry.get(name, ())) for name in ("layers", "health", "health_rule")}
    return LayerStatistics(**_known(LayerStatistics, entry, trend=_column(entry.get("trend", ())), **columns))


def _sample(entry: _Entry | None) -> GradientSample | None:
    if entry is None or "is_exact" not in entry:
        return None
    values: dict[str, Any] = {"sum_abs": entry["sum_abs"]}
    for field in fields(GradientSample):
        stem, _, shape = field.name.rpartition("_")
        key = {"P": stem, "G": f"layer_{stem}", "GB": f"layer_{stem}"}.get(shape)
        if key is not None:
            kind = np.bool_ if stem == "is_exact" else np.int64 if stem in {"num_sampled", "histogram"} else np.float64
            values[field.name] = np.array(entry[key], dtype=kind)
    return GradientSample(**values)


def _activations(entry: _Entry | None) -> ActivationTable | None:
    if entry is None:
        return None
    values: dict[str, Any] = {}
    for field in fields(ActivationTable):
        stem, _, shape = field.name.rpartition("_")
        if shape == "A":
            kind = np.int64 if stem.startswith("num_") or stem == "layer_index" else np.float64
            values[field.name] = np.array(entry[stem], dtype=np.bool_ if stem == "is_output" else kind)
    texts = {name: tuple(entry[name]) for name in ("names", "modules", "types", "layers")}
    return ActivationTable(**_known(ActivationTable, entry, **texts, **values))


def _hook(entry: _Entry) -> HookCount | HookSilence:
    if "num_looks" in entry:
        return HookSilence(**_known(HookSilence, entry))
    return HookCount(**_known(HookCount, entry))


def _run(entry: _Entry) -> RunInfo:
    return RunInfo(**_known(RunInfo, entry, layers=tuple(entry["layers"])))


def _event(entry: _Entry) -> Event:
    return Event(**_known(Event, entry))


def _activity(entry: _Entry) -> ActivityReport:
    return ActivityReport(**_known(ActivityReport, entry, counters=_counters(entry["counters"])))


def _counters(rows: Sequence[_Entry]) -> dict[str, dict[tuple[str, ...], float]]:
    counters: dict[str, dict[tuple[str, ...], float]] = {}
    for row in rows:
        labels = tuple(row["labels"][name] for name in metric(row["name"]).labels)
        counters.setdefault(row["name"], {})[labels] = row["value"]
    return counters


def _health(entry: _Entry) -> HealthReport:
    anomalies = tuple(Anomaly(**_known(Anomaly, each, layers=tuple(each["layers"]))) for each in entry["anomalies"])
    layers = {
        optimizer or None: {layer: LayerState(**_known(LayerState, state)) for layer, state in states.items()}
        for optimizer, states in entry["layers"].items()
    }
    return HealthReport(**_known(HealthReport, entry, anomalies=anomalies, layers=layers))
