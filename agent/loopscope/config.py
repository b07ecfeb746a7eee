"""Every setting, its bounds and its environment variable; the only reader of os.environ."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import SettingError, UnknownSettingError
from .predicates import are_exporters, are_places, are_texts, is_number, is_text
from .records import Event

__all__ = ["ENVIRONMENT_PREFIX", "Config", "client_token", "is_disabled", "launcher_rank"]

ENVIRONMENT_PREFIX = "LOOPSCOPE_"
_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_SYNC_DEVICES = (None, "cuda", "xpu", "mps", "cpu")
_OUTSIDE_CONFIG = frozenset({"DISABLED"})
_OUTSIDE_ENVIRONMENT = frozenset({"on_event"})
_INTEGERS: tuple[tuple[str, int, int | None, bool], ...] = (
    ("port", 0, 65_535, True),
    ("jsonl_max_bytes", 4_096, None, False),
    ("jsonl_files", 1, 1_000, False),
    ("initial_step", 0, None, False),
    ("initial_epoch", 0, None, False),
    ("steps_per_epoch", 1, None, True),
    ("window_steps", 1, 1_000_000, False),
    ("max_layers", 1, 64, False),
    ("sample_elements", 16, 65_536, False),
    ("sync_interval", 1, 1_000_000, True),
    ("sync_budget", 0, 1_000_000, True),
    ("inplace_armed_steps", 0, 1_000_000, False),
    ("dump_steps", 1, 10_000, False),
    ("history", 1, 1_000_000, False),
    ("ring_slots", 2, 4_096, False),
    ("fault_limit", 1, 1_000_000, False),
)
"""Settings that are whole numbers: the least and the largest value, and whether None is one."""
_logger = logging.getLogger("loopscope")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of one agent. Each can be given to `attach`, or as the environment variable `LOOPSCOPE_<NAME>`."""

    host: str = "127.0.0.1"
    """Address the server binds to; loopback unless you open it."""
    port: int | None = 9464
    """Port of /metrics, /healthz and /api/state: the next free one where it is taken, 0 for any, None for no server."""
    token: str | None = field(default=None, repr=False)
    """Bearer token that the server asks for, None for none; /healthz and the files of the page are open to all."""
    tls_certificate: str | None = None
    """PEM file of the server's certificate (and its chain), which turns TLS on."""
    tls_key: str | None = None
    """PEM file of its key, without a passphrase, where that is not in the same file."""
    discovery_dir: str | None = None
    """Directory in which each run leaves a file for Prometheus's file_sd_configs while it lasts, None for no file."""
    exporters: tuple[object, ...] = ()
    """Further exporters: names (`otlp`, `memory`, or an entry point of the group `loopscope.exporters`) or objects."""
    jsonl: str | None = None
    """Path of the flight recorder's log; `{agent}`, `{rank}` and `{pid}` are filled in, None for no log."""
    jsonl_max_bytes: int = 64 * 1024 * 1024
    """Size at which the log is rotated."""
    jsonl_files: int = 4
    """Files kept, the current one included; the disk used is at most jsonl_files * jsonl_max_bytes."""
    run: str | None = None
    """Name of the run, by default the start time and the process id."""
    overhead_budget: float = 0.01
    """Share of the step time that we may take, 100 us a step at the least. Dear statistics are thinned to hold it."""
    initial_step: int = 0
    """Number of the first step: pass the steps already done when a run is resumed."""
    initial_epoch: int = 0
    """Number of the first epoch: pass the epochs already done when a run is resumed."""
    steps_per_epoch: int | None = None
    """Length of an epoch where no DataLoader is seen and agent.epoch() is not called."""
    window_steps: int = 1_000
    """Steps of a window, which is reported where there are no epochs or long ones."""
    max_layers: int = 64
    """Layer groups at the most; neighbours are merged to keep within it."""
    sample_elements: int = 1_024
    """Elements of each parameter that a sample of magnitudes reads at the most."""
    sync_device: str | None = None
    """Device type whose host-device syncs are counted, by default any accelerator; `cpu` simulates: what would wait."""
    sync_interval: int | None = None
    """Syncs inside operators are looked for once in so many steps; None for 20, and for 1 where they are simulated."""
    sync_budget: int | None = None
    """Syncs that a step may have, allowed ones left out; a step with more is an event. None for no budget."""
    allow_syncs: tuple[str, ...] = ()
    """Lines whose syncs are meant, as `train.py:120`, or whole files, as `metrics.py`."""
    inplace_armed_steps: int = 2
    """Steps after attach in which in-place operations are watched, at up to twice the time; 0 never watches any."""
    activations: bool = False
    """Look at activation modules on sampled steps: dead and saturated units, and norms."""
    rules: tuple[str, ...] = ()
    """Changes to the rules of the detectors, as `gradient_spike=off` or `gradient_spike.z_score=8`."""
    on_event: Callable[[Event], object] | None = None
    """Called with every event, on the worker thread; what it raises is counted and logged. Not in the environment."""
    stop_on: tuple[str, ...] = ("critical",)
    """Severities and kinds of events that set `agent.should_stop`."""
    dump_dir: str | None = None
    """Directory to which the last `dump_steps` steps are written when an incident begins, None for nowhere."""
    dump_steps: int = 100
    """Step reports that such a file holds, with all their parameters."""
    history: int = 1_000
    """Epoch reports and events kept in agent.epochs and agent.events."""
    ring_slots: int = 128
    """Steps that may wait for the worker before reports are dropped (and counted)."""
    log_events: bool = True
    """Write events of severity warning and above to the logger `loopscope`, once an incident."""
    fault_limit: int = 10
    """Faults after which a part of loopscope switches itself off."""
    strict: bool = False
    """Raise our own faults into the loop instead of counting them: for loopscope's tests and its developers."""

    def __post_init__(self) -> None:
        _check(self, "host", is_text(self.host), "a host name or an address", "Use 127.0.0.1.")
        for name, low, high, optional in _INTEGERS:
            _check_integer(self, name, low, high, optional=optional)
        is_share = is_number(self.overhead_budget) and 0 < self.overhead_budget <= 1
        _check(
            self,
            "overhead_budget",
            is_share,
            "a share of the step time, above 0 and at most 1",
            "0.01 is one per cent.",
        )
        for name in ("strict", "log_events", "activations"):
            _check(self, name, isinstance(getattr(self, name), bool), "True or False", "")
        _check(
            self, "on_event", self.on_event is None or callable(self.on_event), "a function of an Event, or None", ""
        )
        _check(self, "stop_on", are_texts(self.stop_on), 'a tuple of severities and kinds, as "critical"', "")
        for name in ("jsonl", "run", "dump_dir", "token", "tls_certificate", "tls_key", "discovery_dir"):
            value = getattr(self, name)
            _check(self, name, value is None or is_text(value), "a text that is not empty, or None", "")
        _check(
            self,
            "sync_device",
            self.sync_device in _SYNC_DEVICES,
            "cuda, xpu, mps, cpu (which simulates), or None for any accelerator",
            "Give the type of the device, without an index.",
        )
        _check(
            self,
            "allow_syncs",
            are_places(self.allow_syncs),
            "a tuple of lines as train.py:120, or of files as metrics.py",
            "Copy the site from the event, the metric or the log.",
        )
        _check(
            self,
            "rules",
            are_texts(self.rules),
            "a tuple of texts as gradient_spike.z_score=8",
            "See docs/detectors.md.",
        )
        _check(
            self,
            "exporters",
            are_exporters(self.exporters),
            "a tuple of names, or of objects with name, export, flush and close",
            "See loopscope.protocols.Exporter.",
        )

    @classmethod
    def build(
        cls, settings: Mapping[str, Any], environment: Mapping[str, str] | None = None, base: Config | None = None
    ) -> Config:
        """Return the configuration from defaults, the environment, `base` and `settings`, the later winning.

        Of `base` the fields count that differ from their defaults.

        Raises SettingError (a ValueError) for a wrong value and UnknownSettingError (a TypeError) for a wrong name.
        """
        known = {field.name for field in fields(cls)}
        for name in settings:
            if name not in known:
                raise UnknownSettingError(name, known)
        if base is not None and not isinstance(base, cls):
            raise SettingError(
                "config", base, allowed="a loopscope.Config", remedy="Pass loopscope.Config(port=0), say."
            )
        values: dict[str, Any] = _from_environment(os.environ if environment is None else environment)
        if base is not None:
            default = cls()
            values |= {name: getattr(base, name) for name in known if getattr(base, name) != getattr(default, name)}
        values |= {name: _normal(name, value) for name, value in settings.items()}
        return cls(**values)


def is_disabled(environment: Mapping[str, str] | None = None) -> bool:
    """Whether LOOPSCOPE_DISABLED turns attach into a no-op; a value that is no switch is an error."""
    text = (os.environ if environment is None else environment).get(f"{ENVIRONMENT_PREFIX}DISABLED", "")
    return _switch("DISABLED", text) if text else False


def client_token(environment: Mapping[str, str] | None = None) -> str | None:
    """The token for the server of a run that is looked at from here, None without one."""
    return (os.environ if environment is None else environment).get(f"{ENVIRONMENT_PREFIX}TOKEN") or None


def launcher_rank(environment: Mapping[str, str] | None = None) -> int | None:
    """The rank that torchrun gave this process, None where it is alone."""
    values = os.environ if environment is None else environment
    rank, world_size = values.get("RANK", ""), values.get("WORLD_SIZE", "1")
    return int(rank) if rank.isdigit() and world_size.isdigit() and int(world_size) > 1 else None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    types = {field.name: str(field.type) for field in fields(Config)}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name == variable or name in _OUTSIDE_CONFIG:
            continue
        if name.lower() not in types or name.lower() in _OUTSIDE_ENVIRONMENT:
            _logger.warning(
                "%s",
                UnknownSettingError(
                    variable, (ENVIRONMENT_PREFIX + known.upper() for known in types.keys() - _OUTSIDE_ENVIRONMENT)
                ),
            )
            continue
        values[name.lower()] = _parse(name, text.strip(), types[name.lower()])
    return values


def _parse(name: str, text: str, kind: str) -> Any:
    if "None" in kind and text.lower() in {"", "none"}:
        return None
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == "bool":
        return _switch(name, text)
    if kind.startswith("str"):
        return text
    number, allowed = (float, "a number") if kind == "float" else (int, "a whole number")
    try:
        return number(text)
    except ValueError:
        raise SettingError(
            ENVIRONMENT_PREFIX + name,
            text,
            allowed=allowed,
            remedy=f"Unset {ENVIRONMENT_PREFIX}{name} for the default.",
        ) from None


def _switch(name: str, text: str) -> bool:
    try:
        return _SWITCHES[text.strip().lower()]
    except KeyError:
        raise SettingError(
            ENVIRONMENT_PREFIX + name, text, allowed=", ".join(sorted(_SWITCHES)), remedy="Use 1 or 0."
        ) from None


def _normal(name: str, value: Any) -> Any:
    if name in {"jsonl", "dump_dir", "tls_certificate", "tls_key", "discovery_dir"} and isinstance(value, os.PathLike):
        return str(Path(value))
    if name in {"exporters", "allow_syncs", "rules", "stop_on"}:
        if isinstance(value, str) or not isinstance(value, Sequence):
            return (value,)
        return tuple(value)
    return value


def _check(config: Config, name: str, is_right: bool, allowed: str, remedy: str) -> None:
    if not is_right:
        remedy = remedy or f"Leave it out for the default, {getattr(Config, name)!r}."
        raise SettingError(name, getattr(config, name), allowed=allowed, remedy=remedy)


def _check_integer(config: Config, name: str, low: int, high: int | None, *, optional: bool = False) -> None:
    value = getattr(config, name)
    if optional and value is None:
        return
    is_right = (
        isinstance(value, int) and not isinstance(value, bool) and value >= low and (high is None or value <= high)
    )
    allowed = (
        f"a whole number from {low:,}"
        + (f" to {high:,}" if high is not None else "")
        + (", or None" if optional else "")
    )
    _check(config, name, is_right, allowed, "")
