"""The loop's clock: steps, micro-steps, epochs, phases and skipped steps, from what the probes see."""

from .loop import Loop

__all__ = ["Loop"]
