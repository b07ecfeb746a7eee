"""What a host-device sync comes to: counters by kind and line, and one event when a line is first seen."""

from __future__ import annotations

from ..catalog import MAX_SITES
from ..notes import AllocatorNote
from ..records import SyncCount
from .counters import Counters
from .findings import Finding

__all__ = ["SyncJournal", "sync_remedy"]

_REMEDIES = {
    "print": "Print what is on the host already, every so many steps; formatting a tensor waits for its values.",
    "synchronize": "Leave it out of the training loop; to time a step use CUDA events, which need no wait.",
    "copy": "Pass non_blocking=True, from pinned memory to the device (pin_memory=True in the DataLoader).",
    "cpu": "Keep the values on the device and fetch them every so many steps: x.to('cpu', non_blocking=True).",
    "mask": "The shape of x[mask] is known on the device only: use torch.where or masked_fill, or a product with it.",
    "nonzero": "The shape of the result is known on the device only: work with the mask itself, or with topk.",
    "masked_select": "The shape of the result is known on the device only: torch.where keeps the shape.",
    "unique": "The shape of the result is known on the device only: unique ids can often be had with the batch.",
    "operator": "Look for an argument that lets the shape be known beforehand (num_classes, output_size, size).",
    "bool": "A branch on the device's values: torch.where decides on the device without a wait.",
}
_SCALAR_REMEDY = (
    "Keep the tensor (detached) and sum on the device; read it every so many steps, or log it with agent.log(), which "
    "copies without waiting."
)


class SyncJournal:
    """Counts syncs; the first of each kind at each line is an event, at most as many as there are series."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def take(self, note: SyncCount, counters: Counters) -> tuple[Finding, ...]:
        """Count a note in; return the event of a line that is new."""
        if note.is_allowed:
            counters.add("loopscope.allowed_device_syncs", (note.kind,), note.count)
            return ()
        counters.add("loopscope.device.syncs", (note.site, note.kind), note.count)
        counters.add("loopscope.device.sync", (note.site, note.kind), note.seconds)
        key = (note.kind, note.site)
        if key in self._seen or len(self._seen) >= MAX_SITES:
            return ()
        self._seen.add(key)
        return (_first(note),)

    def take_allocator(self, note: AllocatorNote, counters: Counters) -> None:
        """Count what the allocator did."""
        counters.add("loopscope.allocator.events", (note.event,), note.count)


def sync_remedy(kind: str) -> str:
    """Return what to do about syncs of a kind."""
    return _REMEDIES.get(kind, _SCALAR_REMEDY)


def _first(note: SyncCount) -> Finding:
    where = " (the line at which the main thread was: another thread waited)" if note.is_other_thread else ""
    waited = f", {note.seconds / note.count * 1e6:,.0f} us each" if note.seconds else ""
    return Finding(
        kind="device_sync",
        severity="info",
        message=f"The host waits for the device here: {note.kind}{waited}{where}.",
        remedy=sync_remedy(note.kind),
        site=note.site,
        value=float(note.count),
        attributes={"sync": note.kind, "is_other_thread": note.is_other_thread},
    )
