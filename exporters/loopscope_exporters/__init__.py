"""What takes loopscope's records to the outside, one file an exporter; nothing here imports torch."""

from __future__ import annotations

__all__: list[str] = []
