"""The audit of the hooks that others have put on the model: whether they pile up, hold graphs, or never run."""

from __future__ import annotations

from .probe import HookProbe

__all__ = ["HookProbe"]
