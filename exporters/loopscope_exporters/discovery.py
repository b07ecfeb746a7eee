"""Discovery: a file in a directory that one Prometheus watches, so that it finds every run of a host."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from loopscope.records import Record, RunInfo

if TYPE_CHECKING:
    from .server import MetricsServer

__all__ = ["DiscoveryExporter"]

_NAME = re.compile(r"loopscope-(?P<host>.+)-(?P<pid>\d+)-(?P<start>\d+)-(?P<agent>.+)\.json")


class DiscoveryExporter:
    """Registers one agent's address for `file_sd_configs`, from its first record until it is closed.

    The file appears and changes at once, never half (it is renamed into place), and goes with the agent; those of
    processes of this host that died without taking theirs along are removed when the next one registers. Labels of the
    target are `__meta_loopscope_*` ones, which relabelling may use and which no series gets, and `__scheme__`.
    """

    name = "discovery"

    def __init__(self, server: MetricsServer, directory: Path) -> None:
        self._server, self._directory = server, directory
        self._path: Path | None = None
        self._pid = os.getpid()

    def export(self, record: Record) -> None:
        """Write the file at the run's first record."""
        if isinstance(record, RunInfo) and self._path is None:
            self._path = self._directory / _file_name(record)
            self._write(self._path, [self._group(record)])
            _clean(self._directory, record.host)

    def flush(self) -> None:
        """Do nothing: the file is there since the first record."""

    def close(self) -> None:
        """Take the file away; a second call does nothing, nor does a forked child's."""
        path, self._path = self._path, None
        if path is not None and os.getpid() == self._pid:
            path.unlink(missing_ok=True)

    def close_in_child(self) -> None:
        """After a fork, in the child: the file is the parent's."""
        self._path = None

    def _group(self, run: RunInfo) -> dict[str, object]:
        labels = {"run": run.run, "agent": run.agent, "model": run.model, "pid": str(run.pid), "host": run.host}
        if run.rank is not None:
            labels["rank"] = str(run.rank)
        meta = {f"__meta_loopscope_{name}": value for name, value in labels.items()}
        return {"targets": [self._server.target], "labels": {"__scheme__": self._server.scheme, **meta}}

    def _write(self, path: Path, groups: Iterable[dict[str, object]]) -> None:
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(list(groups), indent=1), encoding="utf-8")
        unfinished.replace(path)


def _file_name(run: RunInfo) -> str:
    host, agent = (re.sub(r"[^\w.-]", "_", text) for text in (run.host or socket.gethostname(), run.agent))
    return f"loopscope-{host}-{run.pid}-{_start(run.pid)}-{agent}.json"


def _start(pid: int) -> int:
    """Return when a process started, 0 where there is none: a pid alone may have been given to another one since."""
    try:
        return round(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0


def _clean(directory: Path, host: str) -> None:
    """Remove the files of processes of this host that are gone; the directory may be shared with other hosts."""
    own = re.sub(r"[^\w.-]", "_", host)
    for path in directory.glob("loopscope-*.json"):
        named = _NAME.fullmatch(path.name)
        if named is None or named["host"] != own:
            continue
        started = _start(int(named["pid"]))
        if not started or abs(started - int(named["start"])) > 1:
            with contextlib.suppress(OSError):  # another run does the same at this moment
                path.unlink()
