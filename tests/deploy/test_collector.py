"""The collector's configuration: documented keys only, whole pipelines, and addresses that are those of the others."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.deploy.files import COMPOSE, DEPLOY, read_yaml

from loopscope_exporters.otlp.environment import read_settings

CONFIGURATION = read_yaml(DEPLOY / "otel-collector" / "config.yaml")
SERVICE = read_yaml(COMPOSE)["services"]["collector"]
COMPONENTS = ("extensions", "receivers", "processors", "exporters")
SERVER = {"endpoint", "tls", "auth", "include_metadata", "middlewares"}
KEYS: dict[str, dict[str, set[str]]] = {
    "extensions": {
        "health_check": {"endpoint", "path", "tls", "auth", "response_headers", "response_body"},
    },
    "receivers": {"otlp": {"protocols"}},
    "processors": {
        "memory_limiter": {
            "check_interval",
            "limit_mib",
            "spike_limit_mib",
            "limit_percentage",
            "spike_limit_percentage",
            "min_gc_interval_when_soft_limited",
            "min_gc_interval_when_hard_limited",
        },
        "batch": {
            "timeout",
            "send_batch_size",
            "send_batch_max_size",
            "metadata_keys",
            "metadata_cardinality_limit",
        },
    },
    "exporters": {
        "otlp_http": {
            "endpoint",
            "metrics_endpoint",
            "logs_endpoint",
            "traces_endpoint",
            "encoding",
            "compression",
            "headers",
            "timeout",
            "tls",
            "auth",
            "proxy_url",
            "read_buffer_size",
            "write_buffer_size",
            "retry_on_failure",
            "sending_queue",
        },
        "debug": {"verbosity", "sampling_initial", "sampling_thereafter", "use_internal_logger", "sending_queue"},
    },
}
"""By kind and type: what is documented in the README and config.go of each component, release 0.158.

All of these components are in the core distribution (opentelemetry-collector-releases, distributions/otelcol).
"""
PROTOCOL_KEYS = {
    "grpc": SERVER | {"transport", "max_recv_msg_size_mib", "max_concurrent_streams", "keepalive"},
    "http": SERVER | {"cors", "max_request_body_size", "compression_algorithms", "metrics_url_path", "logs_url_path"},
}


def expanded(text: str) -> str:
    """Return a value with the collector's ${env:NAME:-default} at its default."""
    return re.sub(r"\$\{env:\w+:-([^}]*)\}", r"\1", text)


def endpoints(tree: Any) -> list[str]:
    """Return every endpoint, at whatever depth."""
    if not isinstance(tree, dict):
        return []
    own = [expanded(tree["endpoint"])] if "endpoint" in tree else []
    return own + [each for value in tree.values() for each in endpoints(value)]


def test_no_other_part_is_there():
    """Components and the service that brings them together."""
    assert set(CONFIGURATION) == {*COMPONENTS, "service"}
    assert set(CONFIGURATION["service"]) == {"extensions", "pipelines"}


@pytest.mark.parametrize("kind", COMPONENTS)
def test_keys_are_documented(kind):
    """Each component is of a known type and has known keys: the collector refuses to start with others."""
    for name, settings in CONFIGURATION[kind].items():
        assert set(settings) <= KEYS[kind][name.partition("/")[0]], name


def test_protocols_are_documented():
    """The receiver's two servers too."""
    protocols = CONFIGURATION["receivers"]["otlp"]["protocols"]

    assert set(protocols) == {"grpc", "http"}
    assert all(set(settings) <= PROTOCOL_KEYS[name] for name, settings in protocols.items())


@pytest.mark.parametrize("kind", ["receivers", "processors", "exporters"])
def test_pipelines_name_what_is_defined(kind):
    """And nothing is defined that no pipeline uses."""
    pipelines = CONFIGURATION["service"]["pipelines"].values()

    assert {name for pipeline in pipelines for name in pipeline[kind]} == set(CONFIGURATION[kind])
    assert all(set(pipeline) == {"receivers", "processors", "exporters"} for pipeline in pipelines)


def test_extensions_are_started():
    """One that the service does not name is not."""
    assert CONFIGURATION["service"]["extensions"] == list(CONFIGURATION["extensions"])


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
def test_every_signal_that_an_agent_sends_is_taken(signal):
    """Without its pipeline the receiver answers that it does not know the signal, and the agent tells of failures."""
    pipeline = CONFIGURATION["service"]["pipelines"][signal]

    assert pipeline["receivers"] == ["otlp"]
    assert (pipeline["processors"][0], pipeline["processors"][-1]) == ("memory_limiter", "batch")


def test_all_endpoints_are_of_the_loopback():
    """As long as nobody says otherwise."""
    listening = [*endpoints(CONFIGURATION["receivers"]), *endpoints(CONFIGURATION["extensions"])]

    assert sorted(listening) == ["127.0.0.1:13133", "127.0.0.1:4317", "127.0.0.1:4318"]
    assert endpoints(CONFIGURATION["exporters"]) == ["http://127.0.0.1:9090/api/v1/otlp"]


def test_agents_send_there_by_default():
    """Without any variable an agent sends every signal to a port that the receiver listens on."""
    listening = {int(each.rpartition(":")[2]) for each in endpoints(CONFIGURATION["receivers"])}
    destinations = read_settings({}).destinations

    assert set(destinations) == set(CONFIGURATION["service"]["pipelines"])
    assert {destination.endpoint.port for destination in destinations.values()} <= listening


def test_memory_is_limited_as_documented():
    """The soft limit is a fifth below the hard one, and Go's own is 80 % of that."""
    limiter = CONFIGURATION["processors"]["memory_limiter"]

    assert limiter["spike_limit_mib"] == limiter["limit_mib"] // 5
    assert SERVICE["environment"]["GOMEMLIMIT"] == f"{limiter['limit_mib'] * 8 // 10}MiB"


def test_metrics_are_not_translated_twice():
    """They go on as OTLP, to Prometheus' own receiver; a name in Prometheus' form would be given suffixes again."""
    (exporter,) = CONFIGURATION["service"]["pipelines"]["metrics"]["exporters"]

    assert exporter.startswith("otlp_http/")
