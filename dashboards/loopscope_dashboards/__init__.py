"""Dashboards, recording rules and alerts, generated from the catalog and one file of settings; no torch in here."""

from __future__ import annotations

__all__: list[str] = []
