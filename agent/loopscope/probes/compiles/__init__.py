"""What torch.compile does: compilations, graph breaks and fallbacks, from dynamo's own records."""

from __future__ import annotations

from .probe import CompileProbe

__all__ = ["CompileProbe"]
