"""Accounts: adds up the calls of a sampled step, keeps how long units have been dead, and sends the sums to the host.

Shape legend: A rows (a module and the number of its call), C units of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...frames import ActivationFrame, ActivationSites
from ...readback import Ring
from .meter import Call

__all__ = ["MIN_DEAD_ROWS", "Accounts"]

MIN_DEAD_ROWS = 128
"""Rows that a unit has to be silent for to be called dead: one that fires once in 30 is so 1 time in 77."""
_MAX_ROWS = 256
"""Rows of one table; further ones are left out and counted."""
_MAX_RINGS = 4
_NUM_SLOTS = 4
_COLUMNS = ("dead", "lasting", "flat", "square")


@dataclass(slots=True)
class _Account:
    """The calls of one row on one device, in one step."""

    num_units: int
    num_rows: int = 0
    num_elements: int = 0
    dead_C: Tensor | None = None
    num_flat: Tensor | None = None
    square: Tensor | None = None
    is_output: bool = False

    def add(self, call: Call) -> None:
        """Add a call: a further micro-step, or a further thread."""
        self.num_rows += call.num_rows
        self.num_elements += call.num_elements
        self.dead_C = call.dead_C if self.dead_C is None or call.dead_C is None else self.dead_C + call.dead_C
        self.num_flat = (
            call.num_flat if self.num_flat is None or call.num_flat is None else self.num_flat + call.num_flat
        )
        self.square = call.square if self.square is None else self.square + call.square


class Accounts:
    """Keeps one count a unit from one sampled step to the next, and slots for the results."""

    def __init__(self) -> None:
        self._silent_C: dict[tuple[int, int, torch.device, int], Tensor] = {}
        """Rows that each unit of a row has been silent for."""
        self._rings: list[Ring] = []

    @torch.no_grad()
    def close(
        self, calls: Iterable[Call], outputs: frozenset[tuple[int, int]], names: Sequence[str], types: Sequence[str]
    ) -> tuple[tuple[ActivationFrame, ...], int]:
        """Return a frame a device for the calls of a step, none without a free slot, and how many rows did not fit."""
        accounts: dict[tuple[int, int, torch.device, int], _Account] = {}
        left_out = set()
        for call in calls:
            key = (call.module, call.number, call.square.device, call.num_units)
            if key not in accounts and len(accounts) >= _MAX_ROWS:
                left_out.add(key)
                continue
            account = accounts.setdefault(key, _Account(call.num_units))
            account.add(call)
            account.is_output |= call.place in outputs and call.place != (0, 0)
        num_calls: dict[int, int] = {}
        for module, number, _, _ in accounts:
            num_calls[module] = max(num_calls.get(module, 0), number + 1)
        frames = [
            self._frame(
                device, {key: account for key, account in accounts.items() if key[2] == device}, num_calls, names, types
            )
            for device in {key[2]: None for key in accounts}
        ]
        return tuple(frame for frame in frames if frame is not None), len(left_out)

    def forget(self) -> None:
        """Begin anew: the modules are others."""
        self._silent_C.clear()

    def _frame(
        self,
        device: torch.device,
        accounts: dict[tuple[int, int, torch.device, int], _Account],
        num_calls: dict[int, int],
        names: Sequence[str],
        types: Sequence[str],
    ) -> ActivationFrame | None:
        ring = self._ring(dict.fromkeys(_COLUMNS, len(accounts)), device)
        slot = ring.acquire()
        if slot is None:
            return None
        for row, (key, account) in enumerate(accounts.items()):
            if account.dead_C is not None:
                self._write_dead(slot.columns, row, key, account)
            if account.num_flat is not None:
                slot.columns["flat"][row].copy_(account.num_flat.float().div_(account.num_elements), non_blocking=True)
            assert account.square is not None
            slot.columns["square"][row].copy_(account.square, non_blocking=True)
        slot.commit()
        if not slot.is_real:
            return None
        modules = [key[0] for key in accounts]
        return ActivationFrame(
            values=slot,
            sites=ActivationSites(
                names=tuple(
                    names[module] if num_calls[module] == 1 else f"{names[module]}[{number}]"
                    for module, number, _, _ in accounts
                ),
                modules=tuple(names[module] for module in modules),
                types=tuple(types[module] for module in modules),
            ),
            num_units_A=np.array([account.num_units for account in accounts.values()], np.int64),
            num_rows_A=np.array([account.num_rows for account in accounts.values()], np.int64),
            num_elements_A=np.array([account.num_elements for account in accounts.values()], np.int64),
            has_dead_A=np.array([account.dead_C is not None for account in accounts.values()], np.bool_),
            has_flat_A=np.array([account.num_flat is not None for account in accounts.values()], np.bool_),
            is_output_A=np.array([account.is_output for account in accounts.values()], np.bool_),
        )

    def _write_dead(
        self, columns: dict[str, Tensor], row: int, key: tuple[int, int, torch.device, int], account: _Account
    ) -> None:
        assert account.dead_C is not None
        is_dead_C = account.dead_C == account.num_rows
        before_C = self._silent_C.get(key)
        silent_C = is_dead_C.float() * account.num_rows
        if before_C is not None:
            silent_C += is_dead_C * before_C
        self._silent_C[key] = silent_C
        columns["dead"][row].copy_(is_dead_C.float().mean(), non_blocking=True)
        columns["lasting"][row].copy_((silent_C >= MIN_DEAD_ROWS).float().mean(), non_blocking=True)

    def _ring(self, columns: dict[str, int], device: torch.device) -> Ring:
        for ring in self._rings:
            if ring.fits(columns, device, torch.float32):
                return ring
        if len(self._rings) >= _MAX_RINGS:
            self._rings.pop(0)
        self._rings.append(Ring(_NUM_SLOTS, columns, device, torch.float32))
        return self._rings[-1]
