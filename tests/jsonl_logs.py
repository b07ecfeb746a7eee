"""Logs of the flight recorder: written record by record, and read line by line as they stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loopscope.records import Record
from loopscope_exporters.jsonl import JsonlExporter

__all__ = ["raw_lines", "write"]


def write(path: Path, *records: Record, **options: int) -> None:
    """Run an exporter over the records, flushing after each."""
    exporter = JsonlExporter(path, **options)
    for record in records:
        exporter.export(record)
        exporter.flush()
    exporter.close()


def raw_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of one file, as they stand."""
    return [json.loads(line) for line in path.read_text().splitlines()]
