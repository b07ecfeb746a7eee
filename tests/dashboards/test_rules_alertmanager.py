"""The example for Alertmanager: what silences what is sound, and exists."""

from __future__ import annotations

import re

import pytest
import yaml
from tests.promtool import RENDERED

CONFIGURATION = yaml.safe_load((RENDERED / "alertmanager.yaml").read_text())
GROUPS = yaml.safe_load((RENDERED / "rules.yaml").read_text())["groups"]
SEVERITIES = {
    rule["alert"]: rule["labels"]["severity"] for group in GROUPS for rule in group["rules"] if "alert" in rule
}


def names(matchers: list[str]) -> list[str]:
    """Return the alerts that the one matcher of a rule is about."""
    (matcher,) = matchers
    return re.fullmatch(r'alertname=~?"(.*)"', matcher)[1].split("|")


INHIBITIONS = [
    (source, target, rule["equal"])
    for rule in CONFIGURATION["inhibit_rules"]
    for source in names(rule["source_matchers"])
    for target in names(rule["target_matchers"])
]


def test_there_are_some():
    """A NaN silences the loss that diverges of it."""
    assert ("LoopscopeNonfiniteGradient", "LoopscopeLossDiverging") in {each[:2] for each in INHIBITIONS}


@pytest.mark.parametrize(("source", "target", "equal"), INHIBITIONS)
def test_consequence_is_an_alert_and_no_worse_than_its_cause(source, target, equal):
    """Both exist; nothing critical is silenced by a warning; only within one run."""
    assert source in SEVERITIES
    assert target in SEVERITIES
    assert not (SEVERITIES[source] == "warning" and SEVERITIES[target] == "critical")
    assert {"job", "instance"} <= set(equal)


def test_nothing_silences_its_own_cause():
    """What follows from what goes one way only, over several steps too: two alerts never silence each other."""
    following = {}
    for source, target, _ in INHIBITIONS:
        following.setdefault(source, set()).add(target)
    reached = {source: set(targets) for source, targets in following.items()}
    for _ in following:
        for targets in reached.values():
            targets |= {further for target in set(targets) for further in following.get(target, ())}

    assert [source for source, targets in reached.items() if source in targets] == []


def test_one_message_for_a_run():
    """Alerts of one run come together, and their end is told."""
    assert CONFIGURATION["route"]["group_by"] == ["job", "instance"]
    assert all(
        webhook["send_resolved"] for receiver in CONFIGURATION["receivers"] for webhook in receiver["webhook_configs"]
    )
