"""Laws of OpenTelemetry's environment: what each variable means, which one wins, and what becomes of nonsense."""

from __future__ import annotations

import logging

import pytest

from loopscope.errors import SettingError
from loopscope_exporters.otlp.environment import SIGNALS, read_settings

E = "OTEL_EXPORTER_OTLP_"


def destination(signal="metrics", **variables):
    """Return where a signal goes, with OTEL_EXPORTER_OTLP_ before each variable."""
    return read_settings({E + name: value for name, value in variables.items()}).destinations[signal]


@pytest.mark.parametrize("signal", SIGNALS)
def test_nothing_set_is_http_on_localhost(signal):
    """The specification's default is HTTP to the local collector, at the signal's own path."""
    to = read_settings({}).destinations[signal]

    assert to.protocol == "http/protobuf"
    assert str(to.endpoint) == f"http://localhost:4318/v1/{signal}"
    assert (to.timeout_seconds, to.is_compressed, to.headers) == (10.0, False, ())


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
        ("http://collector:4318", "http/protobuf"),
        ("https://collector/otlp", "http/protobuf"),
        ("http://collector:4317", "grpc"),
        ("https://[::1]:4317", "grpc"),
        ("collector:4317", "grpc"),
        ("unix:///run/otel.sock", "grpc"),
        ("unix:otel.sock", "grpc"),
        ("unix-abstract:otel", "grpc"),
    ],
)
def test_protocol_follows_the_endpoint(endpoint, protocol):
    """Without a protocol it is that of the port or the form of the endpoint; a protocol that is set wins."""
    assert destination(ENDPOINT=endpoint).protocol == protocol
    assert destination(ENDPOINT=endpoint, PROTOCOL="GRPC").protocol == "grpc"


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"ENDPOINT": "http://a:1"}, "http://a:1/v1/metrics"),
        ({"ENDPOINT": "http://a:1/"}, "http://a:1/v1/metrics"),
        ({"ENDPOINT": "https://a/tenant/7/"}, "https://a:443/tenant/7/v1/metrics"),
        ({"ENDPOINT": "http://a"}, "http://a:80/v1/metrics"),
        ({"ENDPOINT": "http://a:1", "METRICS_ENDPOINT": "http://b:2/own"}, "http://b:2/own"),
        ({"METRICS_ENDPOINT": "http://b:2"}, "http://b:2/"),
        ({"LOGS_ENDPOINT": "http://b:2/own"}, "http://localhost:4318/v1/metrics"),
        ({"ENDPOINT": "http://user:secret@a:1"}, "http://a:1/v1/metrics"),
        ({"PROTOCOL": "grpc"}, "http://localhost:4317/v1/metrics"),
        ({"METRICS_PROTOCOL": "grpc", "PROTOCOL": "http/protobuf"}, "http://localhost:4317/v1/metrics"),
        ({"ENDPOINT": "unix:///run/a.sock"}, "unix:/run/a.sock"),
        ({"ENDPOINT": "  "}, "http://localhost:4318/v1/metrics"),
    ],
)
def test_endpoint(variables, endpoint):
    """An endpoint for all gets the signal's path, one for a signal is the whole URL; no credential is ever shown."""
    assert str(destination(**variables).endpoint) == endpoint


@pytest.mark.parametrize(
    ("variables", "is_secure"),
    [
        ({"ENDPOINT": "https://a:4317"}, True),
        ({"ENDPOINT": "http://a:4317"}, False),
        ({"ENDPOINT": "https://a:4317", "INSECURE": "true"}, True),
        ({"ENDPOINT": "a:4317"}, True),
        ({"ENDPOINT": "a:4317", "INSECURE": "true"}, False),
        ({"ENDPOINT": "a:4317", "INSECURE": "true", "METRICS_INSECURE": "false"}, True),
        ({"ENDPOINT": "unix:///a"}, False),
    ],
)
def test_security(variables, is_secure):
    """The scheme decides whether there is TLS; INSECURE does only where there is none."""
    assert destination(**variables).endpoint.is_secure == is_secure


@pytest.mark.parametrize(
    "endpoint", ["ftp://a", "http://", "http://a:port", "http://a:99999", "unix:", "unix://", "file:///etc/passwd"]
)
def test_endpoint_that_is_none(endpoint):
    """An endpoint that cannot be one is an error at attach, which names the variable and what is allowed."""
    with pytest.raises(SettingError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT=.*Allowed: http://, https:// or unix://"):
        destination(ENDPOINT=endpoint)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10000", 10.0), ("2500", 2.5), ("10", 10.0), ("2.5", 2.5), ("99", 99.0), ("100", 0.1)]
)
def test_timeout(text, seconds):
    """A timeout is in milliseconds, as specified; below 100 in seconds, as Python's own SDK reads it."""
    assert destination(TIMEOUT=text).timeout_seconds == seconds
    assert destination(TIMEOUT="7000", METRICS_TIMEOUT=text).timeout_seconds == seconds


def test_headers():
    """Headers are a list, percent-encoded; those of a signal replace the common ones."""
    text = "api-key=a%20b%2Cc, X-Scope = tenant=7 ,"

    assert destination(HEADERS=text).headers == (("api-key", "a b,c"), ("X-Scope", "tenant=7"))
    assert destination(HEADERS=text, METRICS_HEADERS="own=1").headers == (("own", "1"),)


@pytest.mark.parametrize("text", ["key=a%0d%0aInjected: 1", "api-secret", "=value", "k%C3%A9y=1"])
def test_headers_that_cannot_be_sent(text, caplog):
    """What is no header is left out with a warning that does not show it: it may be a credential."""
    assert destination(HEADERS=text).headers == ()
    assert "HEADERS" in caplog.text
    assert "secret" not in caplog.text
    assert "Injected" not in caplog.text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (f"{E}PROTOCOL", "http/json"),
        (f"{E}COMPRESSION", "zstd"),
        (f"{E}TIMEOUT", "soon"),
        (f"{E}TIMEOUT", "-1"),
        (f"{E}TIMEOUT", "1e300"),
        (f"{E}METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "nan"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_SCHEDULE_DELAY", "inf"),
        ("OTEL_SDK_DISABLED", "maybe"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "all"),
    ],
)
def test_nonsense_is_warned_of_and_ignored(variable, value, caplog):
    """A value that cannot be read is the default, with one warning that names variable and value, as specified."""
    caplog.set_level(logging.WARNING, "loopscope")

    assert read_settings({variable: value}) == read_settings({})
    assert variable in caplog.text
    assert value in caplog.text


@pytest.mark.parametrize(
    ("variables", "signals"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, []),
        ({"OTEL_SDK_DISABLED": "True"}, []),
        ({"OTEL_SDK_DISABLED": "false"}, ["metrics", "logs", "traces"]),
        ({"OTEL_TRACES_EXPORTER": "none"}, ["metrics", "logs"]),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "otlp"}, ["logs", "traces"]),
    ],
)
def test_signals_can_be_switched_off(variables, signals):
    """OTEL_SDK_DISABLED switches all off, `none` one signal."""
    assert list(read_settings(variables).destinations) == signals


def test_numbers():
    """Interval, delays, batches and lengths are read; a batch is never longer than the queue."""
    settings = read_settings(
        {
            "OTEL_METRIC_EXPORT_INTERVAL": "60000",
            "OTEL_BLRP_SCHEDULE_DELAY": "250",
            "OTEL_BLRP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "7",
        }
    )

    assert settings.interval_seconds == 60.0
    assert settings.paces["logs"].delay_seconds == 0.25
    assert (settings.paces["logs"].max_waiting, settings.paces["logs"].max_batch) == (100, 100)
    assert (settings.paces["traces"].max_waiting, settings.paces["traces"].max_batch) == (2_048, 7)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {}),
        ({"OTEL_SERVICE_NAME": "mine"}, {"service.name": "mine"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=other,team=a%2Cb"}, {"service.name": "other", "team": "a,b"}),
        (
            {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,k8s.pod.name=p"},
            {"service.name": "mine", "k8s.pod.name": "p"},
        ),
    ],
)
def test_resource(variables, expected):
    """OTEL_SERVICE_NAME wins over the service.name of OTEL_RESOURCE_ATTRIBUTES."""
    assert read_settings(variables).resource == expected


def test_certificates_that_cannot_be_read(tmp_path):
    """A certificate that is not there is an error at attach, not a connection without it."""
    from loopscope_exporters.otlp import OtlpExporter

    settings = read_settings({f"{E}ENDPOINT": "https://a:4318", f"{E}CERTIFICATE": str(tmp_path / "none.pem")})

    with pytest.raises(SettingError, match=r"CERTIFICATE.*none\.pem"):
        OtlpExporter(settings)
