"""`loopscope dashboards --out DIR`: dashboards for Grafana, as JSON to import or to provision."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

import loopscope

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "write dashboards for Grafana 11 and 12, as JSON to import or to provision"
_GRAFANA_VERSIONS = ("11", "12")
_PACKAGED_VERSION = "12"
_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into; it is made")
    parser.add_argument(
        "--grafana",
        choices=_GRAFANA_VERSIONS,
        default=_PACKAGED_VERSION,
        help="major version of Grafana (default: %(default)s)",
    )
    parser.add_argument(
        "--docs-url", metavar="URL", help="folder of the runbooks that panels link to (default: those of the project)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files and print their names; 0, and 1 where it takes grafanalib to make them, which is missing.

    Raises SettingError for what cannot work.
    """
    changes = [] if arguments.docs_url is None else [f"runbook_base_url={arguments.docs_url}"]
    files = _files(changes, arguments.grafana)
    if files is None:
        needs = "loopscope dashboards needs grafanalib for --grafana 11 and --docs-url"
        print(f"{needs}: pip install 'loopscope[dashboards]'", file=sys.stderr)
        return _FAILED
    folder: Path = arguments.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
            print(folder / name)
    except OSError as fault:
        raise loopscope.SettingError(
            "out", str(folder), allowed="a folder that can be written", remedy=f"Choose another ({fault.strerror})."
        ) from fault
    return 0


def _files(changes: list[str], grafana: str) -> Mapping[str, str] | None:
    """Return the files by name; without grafanalib those of the package, or None where others are asked for."""
    settings = importlib.import_module("loopscope_dashboards.settings").with_changes(changes)
    files: Mapping[str, str]
    try:
        files = importlib.import_module("loopscope_dashboards.render").dashboard_files(settings, grafana)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "grafanalib":
            raise
        if changes or grafana != _PACKAGED_VERSION:
            return None
        files = importlib.import_module("loopscope_dashboards.packaged").packaged_dashboards()
    return files
