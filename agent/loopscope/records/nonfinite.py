"""Where a loss that is not finite came from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NonfiniteOrigin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NonfiniteOrigin:
    """The first place in the forward pass at which a value was NaN (or infinite, where none was NaN).

    Read from the graph of a loss on the CPU; on other devices that would wait for the device.
    """

    what: str
    """`input`, `target`, `weight`, or `operator` where all that is known to have gone in was finite."""
    operator: str
    """The operator that made it or took it in, as autograd names it: `log`, `addmm`."""
    parameter: str | None = None
    """The parameter itself, or one of the layer that the operator belongs to; None before the first layer."""
    rows: tuple[int, ...] = ()
    """Indices along dimension 0 that are not finite, the first 16, where not all are."""
