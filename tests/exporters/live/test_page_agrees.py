"""The page and the terminal say the same: of a run's health, and of a number."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from tests.browser import Browser, Tab
from tests.builders import anomaly, event, health_report, step_report
from tests.exporters.live.pages import Shown, shown
from tests.exporters.live.tabs import drawn
from tests.web import request

from loopscope.records import Record
from loopscope.report import humanise
from loopscope.top.client import Failure
from loopscope.top.health import Link, cases, verdict
from loopscope.top.state import merge

pytestmark = pytest.mark.skipif(
    not Browser.is_installed(), reason="chromium is not installed (apt-get install chromium)"
)

WORDS = {"Healthy": "HEALTHY", "Stalled": "STALLED", "No answer": "NO ANSWER", "The run has ended": "ENDED"}
VERDICT = """(async answer => {
    const [{Store}, {verdict}] = [await import("/page/store.js"), await import("/page/glance.js")];
    const store = new Store();
    store.take(answer);
    return [null, {isLate: false}, {isLate: true}].map(silence => verdict(store, silence));
})"""
LINKS = (Link(), Link(failure=Failure("gone", "Nothing listens."), silent_seconds=3.0), Link(is_late=True))
RUNS = (
    "no step",
    "trouble before a step",
    "healthy",
    "healthy again",
    "critical",
    "warning",
    "stalled",
    "slow",
    "stalled in trouble",
)
TROUBLE = health_report(anomaly("exploding_gradient", "critical"), anomaly("loss_plateau", "info", layers=()))
WORRY = health_report(anomaly("loss_spike", "warning", layers=()))


@pytest.fixture(scope="module")
def page() -> Iterator[Shown]:
    """A run without a step."""
    with shown() as page:
        yield page


@pytest.fixture(scope="module")
def tab(browser: Browser, page: Shown) -> Iterator[Tab]:
    """A tab that has loaded the page's modules."""
    tab = drawn(browser, page.url)
    yield tab
    tab.close()


def step(seconds_ago: float, duration_seconds: float = 0.1) -> Record:
    """A step some time ago."""
    return step_report(7, time_unix_seconds=time.time() - seconds_ago, duration_seconds=duration_seconds)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [TROUBLE],
        [step(0)],
        [step(0), event("exploding_gradient", "critical", 3), health_report()],
        [step(0), TROUBLE],
        [step(0), WORRY],
        [step(120)],
        [step(120, duration_seconds=30.0)],
        [step(120), TROUBLE],
    ],
    ids=RUNS,
)
def test_page_and_terminal_judge_alike(tab: Tab, records: list[Record]) -> None:
    """The same grade and word, whether the server answers, is gone, or is late."""
    with shown() as page:
        for record in records:
            page.exporter.export(record)
        answer = json.loads(request(f"{page.url}api/live").body)
    state = merge(None, answer)
    assert state is not None
    expected = [verdict(state, link, cases(state)) for link in LINKS]

    found = tab.evaluate(f"{VERDICT}({json.dumps(answer)})")

    assert [each["level"].replace("still", "unknown") for each in found] == [each.grade for each in expected]
    for ours, theirs in zip(found, expected, strict=True):
        if theirs.word in WORDS.values():
            assert WORDS[ours["words"]] == theirs.word
        elif theirs.word == "STARTING":
            assert ours["words"] == "Waiting for the first step"
        else:
            assert theirs.words.startswith(ours["words"])


@pytest.mark.parametrize("value", [0, 20e-6, 0.0158, 1.5, 99.9, 99.96, 119.7, 120, 3599.7, 7_260, 86_400, 400_000])
def test_durations_read_alike(tab: Tab, value: float) -> None:
    """As in the terminal and the report."""
    found = tab.evaluate(f"import('/page/format.js').then(format => format.seconds({value}))")

    assert found == humanise.seconds(value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], ["0", "0.5", "1.0"]),
        ([2.25, 2.5, 2.75], ["2.25", "2.50", "2.75"]),
        ([2.3, 2.30001, 2.30002], ["2.30000", "2.30001", "2.30002"]),
        ([-0.05, -6.9e-18, 0.05], ["-0.05", "0", "0.05"]),
        ([0, 2e-6, 4e-6], ["0", "2e-6", "4e-6"]),
        ([-1.4e6, -1.2e6], ["-1.4e6", "-1.2e6"]),
        ([100, 200], ["100", "200"]),
        ([0], ["0"]),
        ([7], ["7.00"]),
        ([], []),
    ],
)
def test_ticks_of_an_axis_can_be_told_apart(tab: Tab, values: list[float], expected: list[str]) -> None:
    """All in one form, with as many digits as that takes."""
    found = tab.evaluate(f"import('/page/format.js').then(format => format.ticks({json.dumps(values)}))")

    assert found == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["stem", "a.very.long.name.of.a.layer"], ["stem", "a.v.l.n.o.a.layer"]),
        (["encoder.layers.3.attention"], ["e.l.3.attention"]),
        (["encoder.layer_3.attention", "encoder.layer_14.attention"], ["e.l3.attention", "e.l14.attention"]),
        (["encoder.query.linear_projection", "encoder.quality.linear_projection"], None),
    ],
)
def test_long_names_are_shortened_where_they_differ_still(
    tab: Tab, names: list[str], expected: list[str] | None
) -> None:
    """Modules become initials with their numbers; names that would be the same then stay as they are."""
    found = tab.evaluate(f"import('/page/format.js').then(format => format.shortened({json.dumps(names)}, 17))")

    assert found == (expected or names)
