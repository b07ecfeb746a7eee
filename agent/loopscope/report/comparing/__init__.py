"""Two logs beside each other: what differs, and the first step at which the runs part."""

from __future__ import annotations

from .render import comparison_json, comparison_text
from .runs import Comparison, compare

__all__ = ["Comparison", "compare", "comparison_json", "comparison_text"]
