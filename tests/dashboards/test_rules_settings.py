"""Settings of the rules: what is given is checked, and is all that the rules depend on."""

from __future__ import annotations

from dataclasses import fields

import pytest
import yaml

import loopscope
from loopscope_dashboards.rules import rule_files
from loopscope_dashboards.settings import RuleSettings, duration, with_changes

NUMBERS = [field.name for field in fields(RuleSettings) if field.name != "runbook_base_url"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (300, "5m"),
        (90, "90s"),
        (3600, "1h"),
        (5400, "90m"),
        (172_800, "2d"),
        (1, "1s"),
        (0.5, "500ms"),
        (1.25, "1250ms"),
        (0.001, "1ms"),
    ],
)
def test_durations_are_whole_numbers_of_a_unit(seconds, text):
    """Prometheus knows no fractions: the largest unit that divides a time is used."""
    assert duration(seconds) == text


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "5m", None])
def test_wrong_numbers_are_told(name, value):
    """What is no number above zero is refused, with its name and the value."""
    with pytest.raises(loopscope.SettingError, match=f"{name}={value!r}"):
        RuleSettings(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_every_setting_changes_the_rules(name):
    """No setting is there for nothing."""
    changed = RuleSettings(**{name: 0.125 if name.endswith("ratio") else 123.0})

    assert rule_files(changed)["rules.yaml"] != rule_files(RuleSettings())["rules.yaml"]


@pytest.mark.parametrize("url", ["https://wiki.example/runbooks", "https://wiki.example/runbooks/"])
def test_runbooks_may_be_anywhere(url):
    """The folder of the runbooks is taken with a slash at its end and without."""
    groups = yaml.safe_load(rule_files(RuleSettings(runbook_base_url=url))["rules.yaml"])["groups"]
    urls = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule]

    assert "https://wiki.example/runbooks/loopscopedeadlayer.md" in urls
    assert all(each.startswith("https://wiki.example/runbooks/loopscope") for each in urls)


@pytest.mark.parametrize("url", ["", "docs/runbooks", None, 7])
def test_wrong_urls_are_told(url):
    """What a browser cannot open is no place for runbooks."""
    with pytest.raises(loopscope.SettingError, match="runbook_base_url"):
        RuleSettings(runbook_base_url=url)


def test_ratio_is_below_one():
    """A share of all steps or more would never be reached."""
    with pytest.raises(loopscope.SettingError, match="dropped_ratio"):
        RuleSettings(dropped_ratio=1.0)


def test_changes_are_taken_the_later_ones_winning():
    """Texts from a command line become numbers."""
    changed = with_changes(["stalled_seconds=60", " stalled_seconds = 3600 ", "runbook_base_url=http://a.example/"])

    assert changed == RuleSettings(stalled_seconds=3600.0, runbook_base_url="http://a.example/")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stalled_second=60", "Did you mean 'stalled_seconds'"),
        ("stalled_seconds", "NAME=VALUE"),
        ("stalled_seconds=5m", "Times are in seconds"),
        ("=5", "as NAME: "),
    ],
)
def test_wrong_changes_are_told(text, told):
    """A name that does not exist and a value that is no number are refused, with what would do."""
    with pytest.raises(loopscope.SettingError, match=told):
        with_changes([text])
