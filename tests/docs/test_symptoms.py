"""docs/symptoms.md leads from what a person sees to every kind of event, to its runbook, and to where it is shown."""

from __future__ import annotations

import json
import re

import pytest
from tests.python_process import ROOT

from loopscope.catalog import EVENT_KINDS

TEXT = (ROOT / "docs" / "symptoms.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
RUNBOOKS = {path.stem: path for path in (ROOT / "docs" / "runbooks").glob("*.md")}
PAGE = ROOT / "exporters" / "loopscope_exporters" / "live" / "page"


@pytest.mark.parametrize("kind", [kind.name for kind in EVENT_KINDS])
def test_every_kind_of_event_is_reached(kind: str) -> None:
    """Some symptom names it, with a link to its runbook where there is one, else to where it is explained."""
    alert = "loopscope" + kind.replace("_", "")
    target = f"runbooks/{alert}.md" if alert in RUNBOOKS else r"(detectors|metrics)\.md(#[\w-]+)?"

    links = [where for where in SECTIONS.values() if re.search(rf"\[`{kind}`\]\({target}\)", where)]

    assert links


def test_every_kind_that_is_named_exists() -> None:
    """What stands in the text of a link to a runbook or to the events is a kind of the catalog."""
    named = set(re.findall(r"\[`(\w+)`\]\((?:runbooks/|metrics\.md#events|detectors\.md)", TEXT))

    assert named == {kind.name for kind in EVENT_KINDS}


@pytest.mark.parametrize("runbook", sorted(RUNBOOKS))
def test_every_runbook_is_reached(runbook: str) -> None:
    """Also those of the run itself."""
    assert f"(runbooks/{runbook}.md)" in TEXT


@pytest.mark.parametrize("symptom", [name for name in SECTIONS if not name.startswith("loopscope itself")])
def test_a_symptom_says_what_to_do_and_what_it_cannot_say(symptom: str) -> None:
    """It begins with where to look, and ends with what loopscope does not know."""
    assert SECTIONS[symptom].lstrip().startswith("**Look first**") or "hook" in symptom
    assert "**It cannot tell**" in SECTIONS[symptom]


def test_what_is_in_italics_can_be_found() -> None:
    """It is the title of a dashboard or panel, or of a section or chart of the live page."""
    page = "".join(path.read_text() for path in (PAGE / "index.html", *sorted(PAGE.glob("*.js"))))
    titles = set(re.findall(r'<h2[^>]*>([^<]+)</h2>|"([A-Z][\w ,]+)"', page))
    shown = {part for pair in titles for part in pair if part}
    for path in sorted((ROOT / "dashboards" / "rendered").glob("*.json")):
        shown |= set(re.findall(r'"title": ("[^"]+")', path.read_text()))
    named = set(re.findall(r"(?<![*\w])\*([A-Z][^*\n]+)\*(?!\*)", TEXT))

    assert named
    assert {name for name in named if name not in shown and json.dumps(name) not in shown} == set()
