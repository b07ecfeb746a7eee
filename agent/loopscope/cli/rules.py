"""`loopscope rules --out DIR`: recording and alert rules for Prometheus, Kubernetes and Alertmanager."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import loopscope

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "write recording and alert rules for Prometheus, as a PrometheusRule, and an example for Alertmanager"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into; it is made")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="NAME=VALUE",
        help="change a setting of the rules, as stalled_seconds=3600 (dashboards/loopscope_dashboards/settings.py)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files and print their names; 0. Raises SettingError for what cannot work."""
    settings = importlib.import_module("loopscope_dashboards.settings").with_changes(arguments.changes)
    files = importlib.import_module("loopscope_dashboards.rules").rule_files(settings)
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
