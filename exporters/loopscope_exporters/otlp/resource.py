"""The resource: which process of which run all that is sent comes from.

https://opentelemetry.io/docs/specs/semconv/resource/
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from loopscope.records import RunInfo

from .messages import InstrumentationScope, Resource, attributes

__all__ = ["make_resource", "make_scope"]

DEFAULT_SERVICE_NAME = "loopscope"
_NAMESPACE = uuid.UUID("4d6e1c1c-21a8-4a8e-9f0f-0d0b5a6c2f57")
"""Of the instance ids, drawn once at random."""


def make_resource(run: RunInfo, given: Mapping[str, str]) -> Resource:
    """Return the attributes of a run; those of OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, `given`, win."""
    instance = f"{run.host}/{run.pid}/{run.run}/{run.agent}/{run.rank}/{run.time_unix_seconds}"
    values: dict[str, object] = {
        "service.name": DEFAULT_SERVICE_NAME,
        "service.instance.id": str(uuid.uuid5(_NAMESPACE, instance.encode("utf-8", "replace").decode())),
        "host.name": run.host,
        "process.pid": run.pid,
        "run": run.run,
        "rank": run.rank,
        "telemetry.sdk.name": "loopscope",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": run.versions.get("loopscope"),
    }
    return Resource(attributes=attributes({**values, **given}))


def make_scope(run: RunInfo) -> InstrumentationScope:
    """Return who has measured."""
    return InstrumentationScope(name="loopscope", version=run.versions.get("loopscope", ""))
