"""compose.yaml: valid, on loopback only, and everything that it mounts is there."""

from __future__ import annotations

import importlib.resources
import json
import re
from pathlib import Path

import jsonschema
import pytest
from tests.deploy.files import COMPOSE, DEPLOY, interpolate, mounts, read_yaml
from tests.python_process import ROOT

SET = {"LOOPSCOPE_DISCOVERY_DIR": "/home/somebody/runs", "GRAFANA_ADMIN_PASSWORD": "chosen"}
CONFIGURATION = interpolate(read_yaml(COMPOSE), SET)
SERVICES = CONFIGURATION["services"]
RENDERED = ROOT / "dashboards" / "rendered"
LISTENING = {"prometheus": 9090, "alertmanager": 9093, "grafana": 3000}


def source_of(service: str, target: str) -> Path:
    """Return what is mounted at a path, as a path of the host."""
    return (COMPOSE.parent / mounts(SERVICES[service])[target][0]).resolve()


def test_is_what_the_specification_takes():
    """The Compose specification's own schema, as the package check-jsonschema has it."""
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((folder / "compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)

    assert [error.message for error in validator.iter_errors(CONFIGURATION)] == []
    assert not validator.is_valid({**CONFIGURATION, "service": {}}), "a schema that takes anything proves nothing"


@pytest.mark.parametrize("name", SET)
def test_what_has_no_default_has_to_be_set(name):
    """Without a password, or the folder of runs, Compose refuses to start; empty is not set."""
    with pytest.raises(KeyError, match=name):
        interpolate(read_yaml(COMPOSE), {**SET, name: ""})


def test_what_is_set_in_a_file_is_not_committed():
    """Compose reads .env beside its file, where the password may be."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert f"/{(COMPOSE.parent / '.env').relative_to(ROOT)}" in ignored


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_published(name):
    """All are in the host's network, as the runs are, and no port is forwarded from elsewhere."""
    assert SERVICES[name]["network_mode"] == "host"
    assert "ports" not in SERVICES[name]
    assert "privileged" not in SERVICES[name]
    assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_all_listen_on_loopback_only():
    """Each is told an address of 127.0.0.1; Alertmanager's gossip, which would take a port on all, is off.

    The collector's endpoints are in its own configuration (test_collector.py).
    """
    grafana = SERVICES["grafana"]["environment"]

    assert "--web.listen-address=127.0.0.1:9090" in SERVICES["prometheus"]["command"]
    assert "--web.listen-address=127.0.0.1:9093" in SERVICES["alertmanager"]["command"]
    assert "--cluster.listen-address=" in SERVICES["alertmanager"]["command"]
    assert (grafana["GF_SERVER_HTTP_ADDR"], grafana["GF_SERVER_HTTP_PORT"]) == ("127.0.0.1", "3000")
    assert set(SERVICES) == {*LISTENING, "collector"}
    assert "COLLECTOR_HOST" not in SERVICES["collector"]["environment"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_mount_is_there(name):
    """What comes from the repository exists and is read-only; the rest is a volume, or named by the user."""
    for target, (source, is_read_only) in mounts(SERVICES[name]).items():
        if source.startswith("."):
            assert is_read_only, target
            assert (COMPOSE.parent / source).exists(), source
        elif source.startswith("/"):
            assert is_read_only, target
            assert source in {"/dev/null", SET["LOOPSCOPE_DISCOVERY_DIR"]}
        else:
            assert source in CONFIGURATION["volumes"]


def test_every_volume_is_used():
    """And survives its container."""
    used = {source for service in SERVICES.values() for source, _ in mounts(service).values()}

    assert set(CONFIGURATION["volumes"]) <= used


def test_every_configuration_is_mounted():
    """No file beside compose.yaml is there for nothing."""
    sources = {(COMPOSE.parent / source).resolve() for each in SERVICES.values() for source, _ in mounts(each).values()}
    written = {path for room in ("prometheus", "grafana", "otel-collector") for path in (DEPLOY / room).iterdir()}

    assert written <= sources


def test_generated_files_are_mounted_from_where_they_are_generated():
    """No copy of them can grow old."""
    assert source_of("prometheus", "/etc/prometheus/rules.yaml") == RENDERED / "rules.yaml"
    assert source_of("alertmanager", "/etc/alertmanager/alertmanager.yaml") == RENDERED / "alertmanager.yaml"
    assert source_of("grafana", "/etc/grafana/dashboards") == RENDERED


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_configuration_is_where_the_flag_says(name):
    """`--config.file` is a file that is mounted, and the data go to a volume."""
    flags = dict(flag.split("=", 1) for flag in SERVICES[name]["command"] if "=" in flag)
    storage = flags.get("--storage.tsdb.path") or flags["--storage.path"]

    assert flags["--config.file"] in mounts(SERVICES[name])
    assert mounts(SERVICES[name])[storage][0] in CONFIGURATION["volumes"]


def test_collector_reads_its_configuration():
    """The flag names the mounted file."""
    (flag,) = SERVICES["collector"]["command"]

    assert flag.removeprefix("--config=") in mounts(SERVICES["collector"])


@pytest.mark.parametrize("name", LISTENING)
def test_health_is_asked_where_it_is_answered(name):
    """Every service but the collector, whose image could not, is asked at its own port."""
    check = SERVICES[name]["healthcheck"]["test"]

    assert check[0] == "CMD"
    assert re.search(r"http://127\.0\.0\.1:(\d+)", check[-1])[1] == str(LISTENING[name])


def test_who_waits_waits_for_something_that_becomes_healthy():
    """`service_healthy` of a service without a health check would never come."""
    waited = {(each, how["condition"]) for it in SERVICES.values() for each, how in it.get("depends_on", {}).items()}

    assert waited == {("prometheus", "service_healthy")}
    assert "healthcheck" in SERVICES["prometheus"]


def test_prometheus_takes_what_the_collector_sends():
    """Its OTLP receiver is on, and nothing that acts is (reloading, deleting)."""
    flags = {flag.partition("=")[0] for flag in SERVICES["prometheus"]["command"]}

    assert "--web.enable-otlp-receiver" in flags
    assert flags & {"--web.enable-lifecycle", "--web.enable-admin-api", "--web.enable-remote-write-receiver"} == set()


def test_grafana_lets_nobody_in_without_a_password():
    """No anonymous viewer, no sign-up, and nothing is asked of or told to the outside."""
    environment = SERVICES["grafana"]["environment"]
    switched_off = ("AUTH_ANONYMOUS_ENABLED", "USERS_ALLOW_SIGN_UP", "ANALYTICS_REPORTING_ENABLED")

    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "chosen"
    assert {environment[f"GF_{name}"] for name in switched_off} == {"false"}
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_grafana_begins_with_a_dashboard_that_is_there():
    """The overview."""
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])

    assert (source_of("grafana", str(home.parent)) / home.name).is_file()
