"""Epochs and windows: the step reports of an optimizer, summed up without losing one."""

from __future__ import annotations

from .aggregator import EpochAggregator
from .norms import MAX_EXACT_STEPS

__all__ = ["MAX_EXACT_STEPS", "EpochAggregator"]
