"""The dashboards that come with the package, for who has no grafanalib to generate them with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["packaged_dashboards"]

_PACKAGE = Path(__file__).parent
_FOLDERS = (_PACKAGE / "rendered", _PACKAGE.parent / "rendered")
"""Where they are in a wheel, as pyproject.toml has it, and in a checkout."""


def packaged_dashboards() -> Mapping[str, str]:
    """Return the text of every file by its name: what `dashboard_files` makes of the default settings, for Grafana 12.

    A test holds the two together.
    """
    folder = next(folder for folder in _FOLDERS if folder.is_dir())
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.json"))}
