"""The rendered files: what the code generates, valid for those who read them, and nothing escapes the conventions."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.promtool import RENDERED, needs_promtool, run_promtool
from tests.python_process import ROOT

from loopscope.catalog import CONSTANT_LABELS, METRICS
from loopscope_dashboards.rules import rule_files
from loopscope_dashboards.settings import RuleSettings

FILES = ("alertmanager.yaml", "prometheusrule.yaml", "rules.yaml")
GROUPS = yaml.safe_load((RENDERED / "rules.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"]: rule for rule in RULES if "record" in rule}
RUNBOOKS = ROOT / "docs" / "runbooks"
DURATION = r"(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)"
"""The pattern of the PrometheusRule's schema."""


@pytest.mark.parametrize("name", FILES)
def test_rendered_is_generated(name):
    """The committed file is the one that the code writes (after a change: make docs)."""
    assert (RENDERED / name).read_text() == rule_files(RuleSettings())[name]


def test_every_rendered_rule_file_is_generated():
    """No file of rules is there that the code does not write."""
    assert sorted(path.name for path in RENDERED.glob("*.yaml")) == sorted(rule_files(RuleSettings())) == sorted(FILES)


@needs_promtool
def test_promtool_finds_nothing():
    """Expressions and templates parse."""
    done = run_promtool("check", "rules", "--lint=all", "--lint-fatal", str(RENDERED / "rules.yaml"))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool comes with prometheus-alertmanager, which is not installed"
)
def test_amtool_finds_nothing():
    """Alertmanager takes the example as it is."""
    done = subprocess.run(
        ["amtool", "check-config", str(RENDERED / "alertmanager.yaml")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_rule_has_the_shape_of_its_schema():
    """The object is what the Prometheus Operator's schema (v1, 0.82) allows: nothing else, texts where texts are due.

    The schema cannot be asked offline; fields, types and patterns are its own. Unknown fields it would prune silently.
    """
    found = yaml.safe_load((RENDERED / "prometheusrule.yaml").read_text())

    assert set(found) == {"apiVersion", "kind", "metadata", "spec"}
    assert (found["apiVersion"], found["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", found["metadata"]["name"])
    for name, value in found["metadata"]["labels"].items():
        assert re.fullmatch(r"([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", name)
        assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", value)
    assert set(found["spec"]) == {"groups"}
    groups = found["spec"]["groups"]
    assert len({group["name"] for group in groups}) == len(groups)  # the list is a map by name
    for group in groups:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            _assert_rule(rule)


def _assert_rule(rule: dict[str, Any]) -> None:
    assert ("alert" in rule) != ("record" in rule)
    assert set(rule) <= {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}
    assert isinstance(rule["expr"], str)
    for name in ("for", "keep_firing_for"):
        assert re.fullmatch(DURATION, rule.get(name, "1m"))
    for name in ("labels", "annotations"):
        assert all(isinstance(text, str) for pair in rule.get(name, {}).items() for text in pair)


def test_both_files_have_the_same_rules():
    """Kubernetes and Prometheus get the same groups."""
    assert yaml.safe_load((RENDERED / "prometheusrule.yaml").read_text())["spec"]["groups"] == GROUPS


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_a_person_needs(name):
    """Severity, one sentence without values, a description that says where, and a runbook."""
    alert = ALERTS[name]
    annotations = alert["annotations"]

    assert re.fullmatch(r"Loopscope([A-Z][a-z]+)+", name)
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert re.fullmatch(r"[A-Z](?:(?!\. |{{|[0-9]{2}).)*\.", annotations["summary"])
    assert "$labels.instance" in annotations["description"]
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"].endswith(f"/docs/runbooks/{name.lower()}.md")
    assert alert["keep_firing_for"] == "2m"


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_its_runbook(name):
    """The runbook exists, is of this alert, and has a text under each of four headings."""
    title, *sections = (RUNBOOKS / f"{name.lower()}.md").read_text().split("\n## ")

    assert title.startswith(f"# {name}\n")
    assert [section.partition("\n")[0] for section in sections] == [
        "Meaning",
        "Likely causes",
        "What to look at",
        "What to do",
    ]
    assert all(len(section.partition("\n")[2].split()) >= 20 for section in sections)


def test_every_runbook_has_its_alert():
    """No runbook is left of an alert that is gone."""
    assert {path.stem for path in RUNBOOKS.glob("loopscope*.md")} == {name.lower() for name in ALERTS}


@pytest.mark.parametrize("name", ALERTS)
def test_text_prints_no_raw_increase(name):
    """A value in a text is formatted, or that of a gauge of whole numbers: `increase` says 1.124 of one event."""
    rule = ALERTS[name]
    texts = " ".join(rule["annotations"].values())
    values = re.findall(r"(\w*) ?(?:\$value|\.Value)", texts)

    assert all(word.startswith("humanize") for word in values) or rule["expr"] == "loopscope_disabled_parts > 0"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_metrics_are_in_the_catalog(rule):
    """An expression names what the catalog has, what is recorded here, or `up`."""
    known = {metric.prometheus_name for metric in METRICS}
    histograms = {metric.prometheus_name for metric in METRICS if metric.kind == "histogram"}
    known |= {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    named = set(re.findall(r"(?<![:\w])loopscope_\w+(?![:\w])", rule["expr"]))

    assert named <= known
    assert set(re.findall(r"\w+:loopscope_\w+:\w+", rule["expr"])) <= set(RECORDS)


@pytest.mark.parametrize("name", ALERTS)
def test_alert_expressions_have_closed_labels_only(name):
    """No alert selects or groups by a source line, a frame, a layer or an operator: those come and go."""
    expression = ALERTS[name]["expr"]
    labels = set(re.findall(r'(\w+)\s*[=!]~?\s*"', expression))
    for listed in re.findall(r"(?:by|on|without|ignoring|group_left|group_right) ?\(([^)]*)\)", expression):
        labels |= {label.strip() for label in listed.split(",") if label.strip()}

    assert labels <= {"job", "instance", "kind", *CONSTANT_LABELS}


def test_counters_of_alerts_exist_from_the_start():
    """A counter that an alert takes the increase of has no label of an open list: its children are there with 0."""
    expressions = " ".join(
        rule["expr"] for rule in (*ALERTS.values(), RECORDS["instance_agent_kind:loopscope_anomalies:recent"])
    )
    counters = set(re.findall(r"increase\((\w+)", expressions))
    labels = {metric.prometheus_name: set(metric.labels) for metric in METRICS}

    assert counters == {"loopscope_anomalies_total", "loopscope_dropped_reports_total", "loopscope_steps_total"}
    assert {name: labels[name] for name in counters if labels[name]} == {"loopscope_anomalies_total": {"kind"}}


def test_recorded_series_are_named_by_convention():
    """`level:metric:operation`, as https://prometheus.io/docs/practices/rules/ has it."""
    assert all(re.fullmatch(r"[a-z_]+:loopscope_[a-z_]+:[a-z0-9_]+", name) for name in RECORDS)


@needs_promtool
@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("promtool/*.yaml")), ids=lambda path: path.stem)
def test_texts_are_as_written(path):
    """Labels and annotations, word for word."""
    done = run_promtool("test", "rules", str(path))

    assert done.returncode == 0, done.stdout + done.stderr
