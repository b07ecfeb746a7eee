"""In-place operations that break autograd, or silently corrupt it: who wrote, and who had saved what was written to."""

from __future__ import annotations

from .probe import InplaceProbe

__all__ = ["InplaceProbe"]
