"""Readback: a ring of fixed host slots that device results are copied into; it never waits, it drops and counts.

One code path for CPU and accelerators: on the CPU the results are written into the slot itself, elsewhere into a
device buffer that is copied to pinned memory without blocking, with an event that the worker queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Ring", "Slot", "is_capturing"]


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured on the current stream: nothing of ours may run then."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()  # type: ignore[no-untyped-call]  # torch


class Slot:
    """One set of named columns on its way to the host.

    Columns live in `device` (the host memory itself on the CPU) until `commit`; `read` gives numpy views of them.
    """

    __slots__ = ("_columns", "_event", "_host", "_views", "columns", "elements", "host", "is_free", "is_real")

    def __init__(
        self, columns: Mapping[str, int], device: torch.device, dtype: torch.dtype, unbound: Sequence[str] = ()
    ) -> None:
        width = sum(columns.values())
        is_cuda = device.type == "cuda"
        self._host = torch.zeros(width, dtype=dtype, device="cpu", pin_memory=is_cuda and torch.cuda.is_available())
        buffer = self._host if device.type == "cpu" else torch.zeros(width, dtype=dtype, device=device)
        self._columns = buffer
        self._event: Any = torch.cuda.Event() if is_cuda and torch.cuda.is_available() else None  # type: ignore[no-untyped-call]  # torch
        self.is_free = True
        """Whether the slot may be written."""
        parts = torch.split(buffer, list(columns.values()))
        self.columns: dict[str, Tensor] = dict(zip(columns, parts, strict=True))
        self.elements: dict[str, Sequence[Tensor]] = {name: self.columns[name].unbind() for name in unbound}
        """The elements of the columns that are written one by one, each of shape []."""
        self._views = self._host_views(columns)
        self.is_real = self._views is not None
        """Whether the slot holds memory, not the shape of it (FakeTensorMode)."""
        self.host = self._views if buffer is self._host else None
        """The columns on the host at once, where the device is the CPU; None elsewhere."""

    def _host_views(self, columns: Mapping[str, int]) -> dict[str, npt.NDArray[np.floating]] | None:
        if type(self._host) is not Tensor:
            return None  # a fake tensor: the loop is traced, not run, and there are no values
        values = self._host.numpy()  # host sync: none, the memory is ours and on the host
        bounds = np.cumsum([0, *columns.values()])
        return {name: values[bounds[i] : bounds[i + 1]] for i, name in enumerate(columns)}

    def commit(self) -> None:
        """Send the columns to the host without waiting."""
        self.is_free = False
        if self._columns is not self._host:
            self._host.copy_(self._columns, non_blocking=True)
            if self._event is not None:
                self._event.record(torch.cuda.current_stream(self._columns.device))  # of its device, not the current

    def is_ready(self) -> bool:
        """Whether the copy has ended; never waits."""
        return self._event is None or bool(self._event.query())

    def read(self) -> Mapping[str, npt.NDArray[np.floating]]:
        """Return numpy views of the columns, valid until `release`; empty where there are no values."""
        return self._views or {}

    def release(self) -> None:
        """Give the slot back."""
        self.is_free = True


class Ring:
    """A fixed number of slots, taken in turn by the training thread and given back in turn by the worker."""

    def __init__(
        self,
        num_slots: int,
        columns: Mapping[str, int],
        device: torch.device,
        dtype: torch.dtype,
        *,
        unbound: Sequence[str] = (),
    ) -> None:
        """`unbound` names the columns whose elements are written one by one."""
        self._key = (tuple(columns.items()), device, dtype, unbound)
        self._slots: Sequence[Slot] = [Slot(columns, device, dtype, unbound) for _ in range(num_slots)]
        self._next = 0

    def fits(
        self, columns: Mapping[str, int], device: torch.device, dtype: torch.dtype, *, unbound: Sequence[str] = ()
    ) -> bool:
        """Whether the slots have these columns."""
        return self._key == (tuple(columns.items()), device, dtype, unbound)

    def acquire(self) -> Slot | None:
        """Return a free slot, or None where the worker is behind: then the caller drops and counts."""
        for _ in self._slots:
            slot = self._slots[self._next]
            if slot.is_free:
                self._next = (self._next + 1) % len(self._slots)
                return slot
            self._next = (self._next + 1) % len(self._slots)  # a slot lost to a Ctrl-C must not stop the ring for good
        return None
