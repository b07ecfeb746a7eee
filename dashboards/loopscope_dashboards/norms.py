"""Norms of gradients: whole where a rank has all of it, else joined from the shards of all ranks."""

from __future__ import annotations

from .queries import grouped, named, selected

__all__ = ["global_norm", "global_norms", "layer_norm"]


def global_norm(labels: str) -> str:
    """Return the norm of all gradients by labels, after clipping."""
    whole = grouped("max", labels, selected("loopscope.gradient.global_norm", 'stage="post_clip"'))
    return f"({whole} or {_joined(labels)})"


def global_norms(labels: str) -> str:
    """Return the same, and the norm before clipping where the loop clips; the label `stage` says which."""
    before = grouped("max", labels, selected("loopscope.gradient.global_norm", 'stage="pre_clip"'))
    return f"{named(global_norm(labels), 'stage', 'norm')} or {named(before, 'stage', 'before clipping')}"


def layer_norm(labels: str) -> str:
    """Return the norm of each layer's gradient by labels."""
    whole = grouped("max", labels, selected("loopscope.gradient.norm"))
    return f"({whole} or {_joined(labels)})"


def _joined(labels: str) -> str:
    """Squares of shards (FSDP2) add up; their norms do not."""
    return f"sqrt({grouped('sum', labels, selected('loopscope.gradient.local_squares'))})"
