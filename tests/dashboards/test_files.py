"""The dashboards as files: what is committed is what is generated, and stays so on every machine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.python_process import ROOT

from loopscope_dashboards.render import dashboard_files
from loopscope_dashboards.settings import RuleSettings, with_changes

RENDERED = ROOT / "dashboards" / "rendered"
NAMES = [
    "loopscope-activations.json",
    "loopscope-gradients.json",
    "loopscope-overview.json",
    "loopscope-performance.json",
    "loopscope-ranks.json",
]


def test_names_of_the_files_are_stable():
    """Who provisions them relies on their names; nothing else is among the committed ones."""
    assert sorted(dashboard_files(RuleSettings(), "12")) == NAMES
    assert sorted(path.name for path in RENDERED.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_is_what_is_generated(name):
    """`loopscope dashboards --out dashboards/rendered` changes nothing."""
    assert (RENDERED / name).read_text(encoding="utf-8") == dashboard_files(RuleSettings(), "12")[name]


def test_another_process_generates_the_same_bytes():
    """No set, hash seed or clock decides about the text."""
    script = (
        "from loopscope_dashboards.render import dashboard_files as f\n"
        "from loopscope_dashboards.settings import RuleSettings as S\n"
        "import hashlib, sys\n"
        "print(hashlib.sha256(repr(sorted(f(S(), '11').items())).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT / 'agent'}:{ROOT / 'dashboards'}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_is_known_by_the_name_of_its_file(name):
    """Links and bookmarks hold on to the uid: it is that of the file, and short enough for Grafana (40)."""
    board = json.loads(dashboard_files(RuleSettings(), "12")[name])

    assert board["uid"] == name.removesuffix(".json")
    assert len(board["uid"]) <= 40
    assert "id" not in board
    assert "version" not in board


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_that_of_the_first_release_of_grafana(name):
    """11.0 has schema 39, 12.0 has 41: a server migrates older schemas, not newer ones; the rest is equal."""
    eleven, twelve = (json.loads(dashboard_files(RuleSettings(), grafana)[name]) for grafana in ("11", "12"))

    assert (eleven.pop("schemaVersion"), twelve.pop("schemaVersion")) == (39, 41)
    assert eleven == twelve


def test_runbooks_can_be_elsewhere():
    """No link is left to the project's own pages where the user has said where theirs are."""
    settings = with_changes(["runbook_base_url=https://docs.example.com/runbooks"])
    default = RuleSettings().runbook_base_url

    for text in dashboard_files(settings, "12").values():
        assert default not in text
        assert "https://docs.example.com/runbooks/loopscope" in text
