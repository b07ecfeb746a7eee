"""InBackward: optimizers that step inside the backward, one or a few parameters each, joined to one step a backward."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import Optimizer

from ..config import Config
from ..frames import Layout, Part, Table
from ..probes.gradients import Reading
from ..readback import Ring, is_capturing
from ..stats import NormPlan, dense_values, is_readable
from .sources import Names, Source

__all__ = ["InBackward"]

_NUM_SCALARS = 4
_MAX_TAKEN = 10_000
"""Optimizers of one backward; one a parameter is the usual way."""


@dataclass(slots=True)
class _Entry:
    """One optimizer: its parameters' names and how their norms are taken."""

    reference: weakref.ref[Optimizer]
    table: Table
    plan: NormPlan
    rows: npt.NDArray[np.int64]
    present: tuple[int, ...]


class InBackward:
    """Reads each optimizer's gradients as it steps (they are freed right after) and joins them at the backward's end.

    Only device tensors of one number a piece are kept in between. Samples and learning rates are not taken.
    """

    def __init__(self, names: Names, config: Config) -> None:
        self._names, self._num_slots = names, config.ring_slots
        self.source = Source(None, "in_backward", config)
        self._entries: dict[int, _Entry] = {}
        self._taken: list[tuple[_Entry, Tensor]] = []
        self._ring: Ring | None = None
        self._joined: dict[tuple[int, ...], tuple[Table, npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}

    @property
    def has_steps(self) -> bool:
        """Whether any optimizer has stepped in the backward under way."""
        return bool(self._taken)

    def forget(self) -> None:
        """Drop what a backward that never ended has left."""
        self._taken.clear()

    @torch.no_grad()
    def add(self, optimizer: Optimizer) -> None:
        """Read the gradients of an optimizer that is about to step inside the backward."""
        if is_capturing():
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters]
        present = tuple([i for i, g in enumerate(gradients) if g is not None and is_readable(g)])
        dense_N = [dense_values(gradient) for i in present if (gradient := gradients[i]) is not None]
        entry = self._entries.get(id(optimizer))
        if (
            entry is None
            or entry.reference() is not optimizer
            or entry.present != present
            or not entry.plan.fits(dense_N)
        ):
            entry = self._entries[id(optimizer)] = self._make(optimizer, parameters, present, dense_N)
        if dense_N and len(self._taken) < _MAX_TAKEN:
            pieces_W = torch.empty(entry.plan.width, dtype=entry.plan.dtype, device=dense_N[0].device)
            entry.plan.write(dense_N, pieces_W)
            self._taken.append((entry, pieces_W))

    @torch.no_grad()
    def collect(self, loss: Tensor | None) -> Reading:
        """Send off what the optimizers of this backward brought, as one reading of the joined table."""
        taken, self._taken = self._taken, []
        table, owner_W, index_N = self._join([entry for entry, _ in taken])
        self.source.table = table
        device, dtype = taken[0][1].device, taken[0][1].dtype
        columns = {
            "norm_pieces": len(owner_W),
            "num_nonfinite": len(index_N),
            "exact_norm": len(index_N),
            "carried": len(owner_W),
            "scalars": _NUM_SCALARS,
        }
        if self._ring is None or not self._ring.fits(columns, device, dtype):
            self._ring = Ring(self._num_slots, columns, device, dtype)
        slot = self._ring.acquire()
        if slot is None:
            return Reading(is_dropped=True)
        torch.cat(
            [pieces.to(device=device, dtype=dtype, non_blocking=True) for _, pieces in taken],
            out=slot.columns["norm_pieces"],
        )
        has_loss = loss is not None and loss.device == device
        if has_loss and loss is not None:
            slot.columns["scalars"][0].copy_(loss, non_blocking=True)
        slot.commit()
        layout = Layout(parameter_index_N=index_N, owner_W=owner_W)
        part = Part(values=slot, layout=layout, scalars=("loss",) if has_loss else ())
        return Reading((part,) if slot.is_real else ())

    def _make(
        self, optimizer: Optimizer, parameters: list[Tensor], present: tuple[int, ...], dense_N: list[Tensor]
    ) -> _Entry:
        for identity in [identity for identity, entry in self._entries.items() if entry.reference() is None]:
            del self._entries[identity]
        self._joined.clear()
        plan = NormPlan(dense_N)
        rows = np.array(present, dtype=np.int64)[plan.owner_W] if present else np.zeros(0, np.int64)
        return _Entry(weakref.ref(optimizer), self._names.table(parameters, "optimizer"), plan, rows, present)

    def _join(self, entries: list[_Entry]) -> tuple[Table, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        key = tuple(id(entry) for entry in entries)
        if key not in self._joined:
            if len(self._joined) > 8:
                self._joined.clear()
            self._joined[key] = _joined(entries, self._names.plan.layers)
        return self._joined[key]


def _joined(
    entries: list[_Entry], order: tuple[str, ...]
) -> tuple[Table, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    offsets = np.cumsum([0, *(len(entry.table.names) for entry in entries)])
    present = {layer for entry in entries for layer in entry.table.layers}
    layers = tuple(layer for layer in order if layer in present)
    layer_of = {layer: index for index, layer in enumerate(layers)}
    table = Table(
        layers=layers,
        names=tuple(name for entry in entries for name in entry.table.names),
        layer_index_P=np.array(
            [layer_of[e.table.layers[g]] for e in entries for g in e.table.layer_index_P], dtype=np.int64
        ),
        num_elements_P=np.concatenate([entry.table.num_elements_P for entry in entries]),
        smallest_normal_P=np.concatenate([entry.table.smallest_normal_P for entry in entries]),
    )
    owner_W = np.concatenate([entry.rows + offset for entry, offset in zip(entries, offsets, strict=False)])
    index_N = np.concatenate(
        [np.array(e.present, np.int64) + offset for e, offset in zip(entries, offsets, strict=False)]
    )
    return table, owner_W.astype(np.int64), index_N.astype(np.int64)
