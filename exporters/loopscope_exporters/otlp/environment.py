"""The settings that OpenTelemetry's own environment variables make: where each signal goes, how and how often.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from loopscope.errors import SettingError

from .endpoint import GRPC, HTTP, Endpoint, guess_protocol, parse_endpoint

__all__ = ["SIGNALS", "Destination", "Pace", "Settings", "read_settings"]

SIGNALS = ("metrics", "logs", "traces")
DEFAULT_INTERVAL_SECONDS = 10.0
"""Of metrics. The specification has a minute, which is long for somebody who looks at a loop."""
MAX_NUMBER = 86_400_000.0
"""Of every setting: a day, in milliseconds."""
_GENERAL = "OTEL_EXPORTER_OTLP_"
_DEFAULT_ENDPOINTS = {GRPC: "http://localhost:4317", HTTP: "http://localhost:4318"}
_TEMPORALITIES = ("cumulative", "delta", "lowmemory")
_HISTOGRAMS = ("base2_exponential_bucket_histogram", "explicit_bucket_histogram")
_EXEMPLAR_FILTERS = ("trace_based", "always_on", "always_off")
_logger = logging.getLogger("loopscope")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where and how one signal is sent."""

    protocol: str
    """`grpc` or `http/protobuf`."""
    endpoint: Endpoint
    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 10.0
    is_compressed: bool = False
    certificate: str | None = None
    """Path of the certificates that the collector's is checked against, None for those of the system."""
    client_certificate: str | None = None
    client_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much of a signal may wait, and how it is sent off."""

    max_waiting: int
    max_batch: int
    delay_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that the environment says; a signal that is not sent has no destination."""

    destinations: Mapping[str, Destination]
    interval_seconds: float
    """Of metrics."""
    paces: Mapping[str, Pace]
    """Of logs and traces."""
    temporality: str
    """`cumulative`, `delta`, or `lowmemory` (histograms are deltas, counters cumulative)."""
    has_exponential_histograms: bool
    has_exemplars: bool
    resource: Mapping[str, str]


class _Variables:
    """The variables by name; a value that cannot be read is warned of and left out, as the specification asks."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, *names: str) -> tuple[str, str]:
        """Return the first of `names` that is set to something, and its value; the last name and "" without one."""
        for name in names:
            value = self._environment.get(name, "").strip()
            if value:
                return name, value
        return names[-1], ""

    def choice(self, allowed: Sequence[str], *names: str, default: str) -> str:
        name, value = self.text(*names)
        if not value or value.lower() in allowed:
            return value.lower() or default
        self._warn(name, value, " or ".join(allowed))
        return default

    def number(self, name: str, default: float, *, least: float = 1.0) -> float:
        _, value = self.text(name)
        try:
            number = float(value) if value else default
        except ValueError:
            number = math.nan
        if math.isfinite(number) and least <= number <= MAX_NUMBER:
            return number
        self._warn(name, value, f"a number from {least:g} to {MAX_NUMBER:g}")
        return default

    def pairs(self, *names: str) -> dict[str, str]:
        """Return a list `key=value,key=value`; both are percent-encoded, as in W3C Baggage."""
        name, value = self.text(*names)
        found = {}
        for entry in filter(str.strip, value.split(",")):
            key, sign, text = (part.strip() for part in entry.partition("="))
            if key and sign:
                found[unquote(key)] = unquote(text)
            else:
                # Not the value: it may be half of a credential.
                _logger.warning("loopscope: %s has an entry that is no key=value, which is ignored", name)
        return found

    def _warn(self, name: str, value: str, allowed: str) -> None:
        _logger.warning("loopscope: %s=%r is ignored. Allowed: %s.", name, value, allowed)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return what the environment says; raises SettingError for an endpoint that cannot be one."""
    variables = _Variables(environment)
    is_off = variables.choice(("true", "false"), "OTEL_SDK_DISABLED", default="false") == "true"
    signals = [] if is_off else [s for s in SIGNALS if variables.text(f"OTEL_{s.upper()}_EXPORTER")[1] != "none"]
    interval = variables.number("OTEL_METRIC_EXPORT_INTERVAL", DEFAULT_INTERVAL_SECONDS * 1e3)
    prefix = f"{_GENERAL}METRICS_"
    filters = variables.choice(_EXEMPLAR_FILTERS, "OTEL_METRICS_EXEMPLAR_FILTER", default="trace_based")
    return Settings(
        destinations={signal: _destination(variables, signal) for signal in signals},
        interval_seconds=interval / 1e3,
        paces={"logs": _pace(variables, "BLRP", 1_000), "traces": _pace(variables, "BSP", 5_000)},
        temporality=variables.choice(_TEMPORALITIES, f"{prefix}TEMPORALITY_PREFERENCE", default="cumulative"),
        has_exponential_histograms=variables.choice(
            _HISTOGRAMS, f"{prefix}DEFAULT_HISTOGRAM_AGGREGATION", default=_HISTOGRAMS[0]
        )
        == _HISTOGRAMS[0],
        has_exemplars=filters != "always_off" and "traces" in signals,
        resource=variables.pairs("OTEL_RESOURCE_ATTRIBUTES") | _service_name(variables),
    )


def _service_name(variables: _Variables) -> dict[str, str]:
    _, name = variables.text("OTEL_SERVICE_NAME")
    return {"service.name": name} if name else {}


def _pace(variables: _Variables, prefix: str, delay_milliseconds: float) -> Pace:
    max_waiting = int(variables.number(f"OTEL_{prefix}_MAX_QUEUE_SIZE", 2_048))
    max_batch = int(variables.number(f"OTEL_{prefix}_MAX_EXPORT_BATCH_SIZE", min(512, max_waiting)))
    delay = variables.number(f"OTEL_{prefix}_SCHEDULE_DELAY", delay_milliseconds)
    return Pace(max_waiting=max_waiting, max_batch=min(max_batch, max_waiting), delay_seconds=delay / 1e3)


def _destination(variables: _Variables, signal: str) -> Destination:
    own = f"{_GENERAL}{signal.upper()}_"

    def text(name: str) -> str:
        return variables.text(own + name, _GENERAL + name)[1]

    _, given = variables.text(f"{own}ENDPOINT", f"{_GENERAL}ENDPOINT")
    protocol = variables.choice((GRPC, HTTP), f"{own}PROTOCOL", f"{_GENERAL}PROTOCOL", default="")
    return Destination(
        protocol=protocol or _guess_protocol(given),
        endpoint=_endpoint(variables, signal, protocol),
        headers=_headers(variables, f"{own}HEADERS", f"{_GENERAL}HEADERS"),
        timeout_seconds=_timeout_seconds(variables, variables.text(f"{own}TIMEOUT", f"{_GENERAL}TIMEOUT")[0]),
        is_compressed=variables.choice(("none", "gzip"), f"{own}COMPRESSION", f"{_GENERAL}COMPRESSION", default="none")
        == "gzip",
        certificate=text("CERTIFICATE") or None,
        client_certificate=text("CLIENT_CERTIFICATE") or None,
        client_key=text("CLIENT_KEY") or None,
    )


def _headers(variables: _Variables, *names: str) -> tuple[tuple[str, str], ...]:
    headers = variables.pairs(*names)
    sendable = {key: value for key, value in headers.items() if key.isascii() and f"{key}{value}".isprintable()}
    if len(sendable) < len(headers):
        _logger.warning("loopscope: %s has headers that cannot be sent, which are ignored", variables.text(*names)[0])
    return tuple((key, value.encode("utf-8").decode("latin-1")) for key, value in sendable.items())


def _guess_protocol(text: str) -> str:
    try:
        return guess_protocol(text)
    except ValueError:  # a port that is none: parse_endpoint says so
        return HTTP


def _endpoint(variables: _Variables, signal: str, protocol: str) -> Endpoint:
    own = f"{_GENERAL}{signal.upper()}_"
    name, text = variables.text(f"{own}ENDPOINT", f"{_GENERAL}ENDPOINT")
    protocol = protocol or _guess_protocol(text)
    # The endpoint of one signal is the whole URL, that of all lacks the path.
    is_own = name.startswith(own) and "://" in text and not text.startswith("unix:")
    is_insecure = variables.choice(("true", "false"), f"{own}INSECURE", f"{_GENERAL}INSECURE", default="false")
    try:
        return parse_endpoint(
            text or _DEFAULT_ENDPOINTS[protocol],
            protocol,
            suffix="" if is_own else f"/v1/{signal}",
            is_insecure=is_insecure == "true",
        )
    except ValueError as fault:
        raise SettingError(
            name,
            text,
            allowed=f"http://, https:// or unix:// and an address ({fault})",
            remedy=f"Try {signal} over {_DEFAULT_ENDPOINTS[HTTP]}.",
        ) from fault


def _timeout_seconds(variables: _Variables, name: str) -> float:
    """Milliseconds, as specified; below 100 seconds, as Python's SDK reads it: nobody waits for 10 ms."""
    timeout = variables.number(name, 10_000, least=0.001)
    return timeout if timeout < 100 else timeout / 1e3
