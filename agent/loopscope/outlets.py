"""Outlets: the exporters of one agent, made from its settings, and the server that agents share."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from .actions import Callback, StopWish
from .config import Config
from .errors import SettingError
from .protocols import Exporter
from .records import RunInfo

__all__ = ["Outlets"]

_BUILT_IN = "loopscope_exporters"
_BY_NAME = ("memory", "log", "otlp")
_GROUP = "loopscope.exporters"
_RECENT_STEPS = 8


class Outlets:
    """What an agent exports to. Built-in exporters come in by name, so that the agent does not import them."""

    def __init__(
        self,
        recent: Any,
        stop: StopWish,
        exporters: tuple[Exporter, ...],
        server: Any,
        address: tuple[object, ...],
    ) -> None:
        self.recent = recent
        self.stop = stop
        self.exporters = exporters
        self.server = server
        self.address = address

    @classmethod
    def open(cls, config: Config, info: RunInfo, others: Iterable[Outlets]) -> Outlets:
        """Open files and sockets; SettingError where one cannot be had, with everything opened before closed again."""
        recent = _module("memory").MemoryExporter(config.history, num_steps=_RECENT_STEPS)
        stop = StopWish(config.stop_on)
        opened: list[Exporter] = [recent, stop]
        if config.on_event is not None:
            opened.append(Callback(config.on_event))
        is_whole = False
        try:
            if config.log_events:
                opened.append(_module("log").LogExporter())
            opened += [_resolve(exporter, config) for exporter in config.exporters]
            if config.jsonl is not None:
                path = _log_path(config.jsonl, info)
                opened.append(_module("jsonl").JsonlExporter(path, config.jsonl_max_bytes, config.jsonl_files))
            if config.dump_dir is not None:
                opened.append(_module("dump").DumpExporter(_directory("dump_dir", config.dump_dir), config.dump_steps))
            server, security = None, (config.tls_certificate, config.tls_key, config.token)
            address = (config.host, config.port, *security)
            if config.port is not None:
                server = next(
                    (o.server for o in others if o.address == address and o.server and not o.server.is_closed), None
                )
                server = server or _server(config)
                opened += [_module("prometheus").PrometheusExporter(server), _module("live").LiveExporter(server)]
                if config.discovery_dir is not None:
                    directory = _directory("discovery_dir", config.discovery_dir)
                    opened.append(_module("discovery").DiscoveryExporter(server, directory))
            is_whole = True
            return cls(recent, stop, tuple(opened), server, address)
        finally:
            for exporter in () if is_whole else opened:
                exporter.close()

    @property
    def url(self) -> str | None:
        """Address of the server, None without one."""
        return None if self.server is None or self.server.is_closed else str(self.server.url)

    @property
    def cpu_seconds(self) -> float:
        """CPU time that threads of exporters have taken, and the server's answers, for all agents that share it."""
        own_seconds = sum(float(getattr(exporter, "cpu_seconds", 0.0)) for exporter in self.exporters)
        return own_seconds + (0.0 if self.server is None else float(self.server.cpu_seconds))

    def close_in_child(self) -> None:
        """After a fork: let go of the parent's socket and log, without touching what the parent does with them."""
        if self.server is not None:
            self.server.close_in_child()
        for exporter in self.exporters:
            close_in_child = getattr(exporter, "close_in_child", None)
            if close_in_child is not None:
                close_in_child()


def _module(name: str) -> Any:
    return importlib.import_module(f"{_BUILT_IN}.{name}")


def _resolve(exporter: object, config: Config) -> Exporter:
    """Return an exporter object; a name is a built-in one, else an entry point of the group `loopscope.exporters`."""
    if not isinstance(exporter, str):
        return cast("Exporter", exporter)
    settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if exporter in _BY_NAME:
        made: Exporter = _module(exporter).create(settings)
        return made
    found = {point.name: point for point in entry_points(group=_GROUP)}
    if exporter not in found:
        raise SettingError(
            "exporters",
            exporter,
            allowed=f"an exporter object, or one of {sorted({*_BY_NAME, *found})}",
            remedy=f"Install the package that brings the entry point {exporter!r} of {_GROUP!r}.",
        )
    loaded: Exporter = found[exporter].load()(settings)
    return loaded


def _server(config: Config) -> Any:
    certificate, key, token = config.tls_certificate, config.tls_key, config.token
    security = _module("security").Security(certificate=certificate, key=key, token=token)
    return _module("server").MetricsServer(config.host, config.port, security)


def _directory(name: str, text: str) -> Path:
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(path, os.W_OK | os.X_OK)
    except OSError:
        is_writable = False
    if not is_writable:
        remedy = "Name another one, or leave it out."
        raise SettingError(name, text, allowed="a directory that can be made and written to", remedy=remedy)
    return path


def _log_path(template: str, info: RunInfo) -> Path:
    """Fill in {agent}, {rank}, {pid} and {run}; ranks above 0 get a suffix of their own where the path names none."""
    rank = info.rank or 0
    try:
        path = Path(template.format(agent=info.agent, rank=rank, pid=info.pid, run=info.run))
    except (KeyError, IndexError, ValueError):
        raise SettingError(
            "jsonl",
            template,
            allowed="a path with {agent}, {rank}, {pid} and {run} as placeholders",
            remedy="Double the braces that are meant literally.",
        ) from None
    if rank and "{rank}" not in template:
        path = path.with_name(f"{path.stem}.rank{rank}{path.suffix}")
    return path
