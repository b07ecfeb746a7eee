"""What is kept of the steps of one optimizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from .curves import Curve
from .layers import LayerGrid
from .log import Entry, real
from .magnitudes import Magnitudes
from .timing import Timing

__all__ = ["SyncLine", "Track"]

MAX_RATES = 4
MAX_SYNC_LINES = 200


class SyncLine:
    """How often and how long one line waited by one kind of sync, as the steps tell it."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0


class Track:
    """One optimizer of one run: curves over its steps, and grids of its layers."""

    def __init__(self, optimizer: str | None) -> None:
        self.optimizer = optimizer
        self.num_reports = 0
        self.num_steps = 0
        self.num_skipped: Counter[str] = Counter()
        self.first_step: int | None = None
        self.last_step: int | None = None
        self.num_samples = 0
        self.num_tokens = 0
        self.overhead_seconds = 0.0
        self.loss, self.norm, self.norm_pre_clip = Curve(), Curve(), Curve()
        self.rates: list[Curve] = []
        self.timing = Timing()
        self.magnitudes = Magnitudes()
        self.grids = {unit: LayerGrid(unit) for unit in ("epoch", "window", "step")}
        self.num_epochs = 0
        self.num_windows = 0
        self.syncs: dict[tuple[str, str], SyncLine] = {}
        self.has_local_shards = False
        self.loss_source: str | None = None

    def add_step(self, entry: Entry) -> None:
        """Take in a step line."""
        step = entry["step"]
        self.num_reports += 1
        self.num_steps += entry.get("num_steps", 1)
        self.num_skipped.update(entry.get("num_skipped") or {})
        self.first_step = step if self.first_step is None else self.first_step
        self.last_step = step
        self.num_samples += entry.get("num_samples") or 0
        self.num_tokens += entry.get("num_tokens") or 0
        self.overhead_seconds += real(entry.get("overhead_seconds")) or 0.0
        self.loss_source = entry.get("loss_source") or self.loss_source
        self.loss.add(step, real(entry.get("loss")))
        for index, rate in enumerate((entry.get("learning_rates") or ())[:MAX_RATES]):
            if index == len(self.rates):
                self.rates.append(Curve())
            self.rates[index].add(step, real(rate))
        seconds = real(entry.get("duration_seconds"))
        if seconds is not None:
            self.timing.add(step, seconds, entry.get("phases") or {}, entry.get("phases_clock"))
        self._add_syncs(entry.get("syncs") or ())
        if entry.get("gradients"):
            self._add_gradients(step, entry["gradients"])

    def add_epoch(self, entry: Entry) -> None:
        """Take in the line of an epoch or a window."""
        if entry.get("kind") == "window":
            self.grids["window"].add_epoch(self.num_windows, entry)
            self.num_windows += 1
        else:
            self.grids["epoch"].add_epoch(entry["epoch"], entry)
            self.num_epochs += 1

    @property
    def grid(self) -> LayerGrid:
        """The columns that tell most: epochs, else windows, else spans of steps."""
        for unit in ("epoch", "window"):
            if len(self.grids[unit].columns()) > 1:
                return self.grids[unit]
        return self.grids["step"] if self.grids["step"].layers else self.grids["epoch"]

    def health(self) -> Iterator[tuple[str, str, str]]:
        """Yield the layers' states in the last epoch or window that has them: layer, state, rule."""
        for grid in (self.grids["epoch"], self.grids["window"]):
            if grid.has_health:
                layers, health = grid.layers, grid.columns()[-1].health
                yield from ((layers[index], *health[index]) for index in sorted(health))
                return

    def _add_gradients(self, step: int, gradients: Entry) -> None:
        norm = real(gradients.get("global_norm"))
        self.norm.add(step, norm)
        self.norm_pre_clip.add(step, real(gradients.get("global_norm_pre_clip")))
        self.has_local_shards |= gradients.get("scope") == "local_shard"
        self.grids["step"].add_step(step, gradients)
        sample = gradients.get("sample")
        if sample:
            self.magnitudes.add(step, sample.get("layer_histogram"))

    def _add_syncs(self, syncs: Sequence[Entry]) -> None:
        for sync in syncs:
            key = (sync["site"], sync["kind"])
            if sync.get("is_allowed") or (key not in self.syncs and len(self.syncs) >= MAX_SYNC_LINES):
                continue
            line = self.syncs.setdefault(key, SyncLine())
            line.count += sync["count"]
            line.seconds += real(sync.get("seconds")) or 0.0
