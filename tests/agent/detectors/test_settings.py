"""Laws of the setting `rules`: every bound can be changed, and what cannot work is said at attach."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest
from tests.builders import step_report
from tests.detecting import noise, reports_of, see
from tests.loops import network, watch
from torch.optim import SGD

from loopscope.catalog import EVENT_KINDS
from loopscope.config import Config
from loopscope.detectors import DEFAULT_RULES, default_detectors
from loopscope.detectors.settings import parse_rules
from loopscope.errors import SettingError
from loopscope.protocols import Detector

DOCS = (Path(__file__).parents[3] / "docs" / "detectors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", DEFAULT_RULES)
def test_every_rule_is_declared_and_documented(kind: str) -> None:
    """Its kind is in the catalog, and docs/detectors.md has a row with all of its bounds as they are."""
    (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| `{kind}` |")]

    assert kind in {entry.name for entry in EVENT_KINDS}
    for each in fields(DEFAULT_RULES[kind]):
        assert f"`{each.name}` {getattr(DEFAULT_RULES[kind], each.name):g}" in row


@pytest.mark.parametrize("kind", DEFAULT_RULES)
def test_every_rule_can_be_off_and_on(kind: str) -> None:
    """Later texts win."""
    assert parse_rules([f"{kind}=off"], DEFAULT_RULES)[kind] is None
    assert parse_rules([f"{kind}=off", f"{kind}=on"], DEFAULT_RULES) == DEFAULT_RULES


def test_bound_is_changed_alone() -> None:
    """The other bounds of the rule, and the other rules, stay as they are."""
    rules = parse_rules([" gradient_spike.z_score = 9 "], DEFAULT_RULES)

    assert rules["gradient_spike"].z_score == 9
    assert rules["gradient_spike"].ratio == DEFAULT_RULES["gradient_spike"].ratio
    assert {kind for kind in rules if rules[kind] != DEFAULT_RULES[kind]} == {"gradient_spike"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gradient_spik=off", "Did you mean 'gradient_spike'"),
        ("gradient_spike.zscore=3", "Did you mean 'z_score'"),
        ("gradient_spike.z_score=high", "a number above zero"),
        ("gradient_spike.z_score=-1", "a number above zero"),
        ("gradient_spike.z_score=nan", "a number above zero"),
        ("gradient_spike", "gradient_spike=off"),
        ("gradient_spike=maybe", "on or off"),
        ("nonfinite_loss.ratio=3", "no parameters"),
    ],
)
def test_wrong_text_names_what_is_allowed(text: str, says: str) -> None:
    """And what was meant."""
    with pytest.raises(SettingError, match=r"rules") as error:
        parse_rules([text], DEFAULT_RULES)

    assert says in str(error.value)


def test_wrong_rule_is_an_error_at_attach() -> None:
    """Before anything is installed."""
    model = network()

    with (
        pytest.raises(SettingError, match="Did you mean 'loss_spike'"),
        watch(model, SGD(model.parameters(), 0.1), rules=("loss_spikes=off",)),
    ):
        pass


def test_default_detectors_have_names_of_their_own() -> None:
    """Each is behind its own guard; the budget of syncs is there where there is one."""
    names = [detector.name for detector in default_detectors(Config(sync_budget=1))]

    assert len(set(names)) == len(names)
    assert "sync_budget" in names
    assert all(isinstance(detector, Detector) for detector in default_detectors())


def test_nothing_is_left_where_all_are_off() -> None:
    """No detector runs for nothing."""
    assert default_detectors(Config(rules=tuple(f"{kind}=off" for kind in DEFAULT_RULES))) == ()


@pytest.mark.parametrize("norm", [0.0, math.nan, math.inf, 1e-150, 1e150])
def test_no_detector_stumbles_over_extremes(norm: float) -> None:
    """Whatever the numbers, nothing is raised, and no warning of numpy either."""
    norms_NG = noise(80)
    norms_NG[40:60, 1] = norm
    reports = [*reports_of(norms_NG), step_report(80, gradients=None, loss=None, duration_seconds=None, phases={})]

    events = [event for detector in default_detectors() for event in see(detector, reports)]

    assert all(event.message and event.remedy for event in events)
