"""What Grafana is provisioned with: known keys, and addresses and intervals that are those of the others."""

from __future__ import annotations

import json

import jsonschema
import pytest
from tests.deploy.files import COMPOSE, DEPLOY, mounts, read_yaml
from tests.python_process import ROOT

SOURCES = read_yaml(DEPLOY / "grafana" / "datasources.yaml")
PROVIDERS = read_yaml(DEPLOY / "grafana" / "dashboards.yaml")
PROMETHEUS = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")
MOUNTED = mounts(read_yaml(COMPOSE)["services"]["grafana"])


def closed(required: list[str], **properties: object) -> dict[str, object]:
    """Return the schema of an object without further keys."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT, SWITCH, NUMBER = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
SOURCES_SCHEMA = closed(
    ["apiVersion", "datasources"],
    apiVersion={"const": 1},
    prune=SWITCH,
    datasources={
        "type": "array",
        "items": closed(
            ["name", "type", "access", "url", "uid"],
            name=TEXT,
            uid={"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
            type={"enum": ["prometheus", "alertmanager"]},
            access={"enum": ["proxy", "direct"]},
            orgId=NUMBER,
            url=TEXT,
            isDefault=SWITCH,
            editable=SWITCH,
            jsonData=closed(
                [],
                httpMethod={"enum": ["GET", "POST"]},
                prometheusType={"enum": ["Prometheus", "Cortex", "Mimir", "Thanos"]},
                timeInterval=TEXT,
                implementation={"enum": ["prometheus", "cortex", "mimir"]},
                handleGrafanaManagedAlerts=SWITCH,
            ),
        ),
    },
)
"""https://grafana.com/docs/grafana/v12.4/administration/provisioning/#data-sources and those of the two sources."""
PROVIDERS_SCHEMA = closed(
    ["apiVersion", "providers"],
    apiVersion={"const": 1},
    providers={
        "type": "array",
        "items": closed(
            ["name", "type", "options"],
            name=TEXT,
            orgId=NUMBER,
            folder=TEXT,
            folderUid=TEXT,
            type={"const": "file"},
            disableDeletion=SWITCH,
            allowUiUpdates=SWITCH,
            updateIntervalSeconds=NUMBER,
            options=closed(["path"], path=TEXT, foldersFromFilesStructure=SWITCH),
        ),
    },
)
"""https://grafana.com/docs/grafana/v12.4/administration/provisioning/#dashboards"""


@pytest.mark.parametrize(("content", "schema"), [(SOURCES, SOURCES_SCHEMA), (PROVIDERS, PROVIDERS_SCHEMA)])
def test_keys_are_documented(content, schema):
    """Grafana would ignore others without a word."""
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(content)) == []


def test_sources_are_the_servers_of_compose():
    """Prometheus is the default, at its address; Alertmanager is where Prometheus sends alerts to."""
    urls = {source["type"]: source["url"] for source in SOURCES["datasources"]}
    (alertmanagers,) = PROMETHEUS["alerting"]["alertmanagers"]
    (configs,) = alertmanagers["static_configs"]

    assert urls == {"prometheus": "http://127.0.0.1:9090", "alertmanager": f"http://{configs['targets'][0]}"}
    assert [source["type"] for source in SOURCES["datasources"] if source.get("isDefault")] == ["prometheus"]
    assert not any(source["editable"] for source in SOURCES["datasources"])


def test_interval_is_that_of_scraping():
    """Grafana reckons $__rate_interval from it: with another, rates would have gaps or be blurred."""
    (prometheus,) = (source for source in SOURCES["datasources"] if source["type"] == "prometheus")

    assert prometheus["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_dashboards_are_read_from_where_they_are_mounted():
    """And cannot be changed or deleted in Grafana, where the next start would undo it."""
    (provider,) = PROVIDERS["providers"]

    assert MOUNTED[provider["options"]["path"]][0].endswith("/dashboards/rendered")
    assert (provider["allowUiUpdates"], provider["disableDeletion"]) == (False, True)


def test_both_files_are_where_grafana_looks():
    """Beside what the image has there, so that no folder is hidden."""
    folders = {target.rsplit("/", 2)[1] for target in MOUNTED if target.startswith("/etc/grafana/provisioning/")}

    assert folders == {"datasources", "dashboards"}


@pytest.mark.parametrize("path", sorted((ROOT / "dashboards" / "rendered").glob("*.json")), ids=lambda path: path.stem)
def test_dashboards_find_their_source(path):
    """Each has a variable for it, of the type that is provisioned: the default one is chosen."""
    variables = json.loads(path.read_text())["templating"]["list"]

    assert [each["query"] for each in variables if each["type"] == "datasource"] == ["prometheus"]
