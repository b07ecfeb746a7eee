"""What the Prometheus Operator takes: the fields of PodMonitor and PrometheusRule that we use, and no others.

Written from the definitions of prometheus-operator 0.91.0, example/prometheus-operator-crd/. Unlike those, which prune
what they do not know without a word, these refuse it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["POD_MONITOR", "PROMETHEUS_RULE"]

DURATION = "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"
TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _object(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "monitoring.coreos.com/v1"},
        kind={"const": kind},
        metadata=_object(["name"], name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
        spec=spec,
    )


POD_MONITOR = _resource(
    "PodMonitor",
    _object(
        ["selector", "podMetricsEndpoints"],
        selector=_object(["matchLabels"], matchLabels=TEXTS),
        jobLabel=TEXT,
        podMetricsEndpoints=_array(
            _object(
                ["port"],
                port=TEXT,
                path=TEXT,
                scheme={"enum": ["http", "https", "HTTP", "HTTPS"]},
                interval={"type": "string", "pattern": DURATION},
                scrapeTimeout={"type": "string", "pattern": DURATION},
                authorization=_object(
                    ["credentials"], type=TEXT, credentials=_object(["key", "name"], key=TEXT, name=TEXT)
                ),
            )
        ),
    ),
)
PROMETHEUS_RULE = _resource(
    "PrometheusRule",
    _object(
        ["groups"],
        groups=_array(
            _object(
                ["name", "rules"],
                name={"type": "string", "minLength": 1},
                interval={"type": "string", "pattern": DURATION},
                rules=_array(
                    _object(
                        ["expr"],
                        alert=TEXT,
                        record=TEXT,
                        expr={"type": ["string", "integer"]},
                        **{"for": {"type": "string", "pattern": DURATION}},
                        keep_firing_for={"type": "string", "pattern": DURATION, "minLength": 1},
                        labels=TEXTS,
                        annotations=TEXTS,
                    )
                ),
            )
        ),
    ),
)
