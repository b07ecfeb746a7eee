"""The live page in a real Chromium: it shows what was exported, follows it, and asks nobody but its own server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.browser import Browser
from tests.exporters.live.pages import LAYERS, Shown, feed, feed_trouble, shown
from tests.exporters.live.tabs import drawn, text, until

pytestmark = pytest.mark.skipif(
    not Browser.is_installed(), reason="chromium is not installed (apt-get install chromium)"
)

WIDTHS = (1280, 800, 400)
SEEN = "Array.from(document.querySelectorAll('#layers %s')).filter(each => each.offsetParent)"
CANVASES = """Array.from(document.querySelectorAll("canvas"), canvas => {
    const box = canvas.getBoundingClientRect();
    return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height};
}).filter(box => box.width > 0)"""


@pytest.fixture
def page() -> Iterator[Shown]:
    """A run of 60 steps."""
    with shown() as page:
        feed(page, 60)
        yield page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_page_is_whole_at_every_width(browser: Browser, page: Shown, width: int, scheme: str) -> None:
    """No message on the console, no request but to its own server, nothing wider than the screen, every chart drawn."""
    feed_trouble(page, 50)
    tab = drawn(browser, page.url, width=width, scheme=scheme)

    assert tab.complaints == []
    assert all(address.startswith(page.url) for address in tab.requests)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    canvases = tab.evaluate(CANVASES)
    assert len(canvases) == 5
    for canvas in canvases:
        assert canvas["width"] > 100, canvas
        assert canvas["x"] + canvas["width"] <= width, canvas
        assert browser.num_colours(tab.picture(canvas)) > 8, canvas
    tab.close()


def test_a_healthy_run_is_seen_at_a_glance(browser: Browser, page: Shown) -> None:
    """The verdict is the first thing, and the figures are those of the latest step."""
    tab = drawn(browser, page.url)

    assert text(tab, "#verdict") == "Healthy"
    assert tab.evaluate("document.title") == "Healthy · run-1"
    figures = text(tab, "#figures")
    assert "59" in figures
    assert "100 ms" in figures
    assert "320/s" in figures
    assert text(tab, "#incident-list") == "Nothing to act on so far."
    tab.close()


def test_trouble_names_its_first_cause_line_and_remedy(browser: Browser, page: Shown) -> None:
    """An incident is one card, whose head is the first cause; waits and recompilations stand with their lines."""
    feed_trouble(page, 50)
    tab = drawn(browser, page.url)

    assert text(tab, "#verdict") == "1 anomaly open"
    assert "exploding gradient in encoder.0 since step 50" in text(tab, "#verdict-why")
    assert tab.evaluate("document.querySelectorAll('.incident').length") == 1
    card = text(tab, ".incident")
    for words in ("exploding gradient", "first cause", "train.py:40", "Lower the learning rate.", "1 that followed"):
        assert words in card
    lines = text(tab, "#lines")
    for words in ("train.py:12", "item", "40", "250 ms", "forward (model.py:7)", "recompiled: shape", "model.py:9"):
        assert words in lines
    assert "train.py:12" in text(tab, "#events")
    tab.close()


def test_the_page_follows_the_run(browser: Browser, page: Shown) -> None:
    """New steps, events and what has opened come by themselves, and an open detail stays open."""
    tab = drawn(browser, page.url)
    feed(page, 40, first=60)
    feed_trouble(page, 99)

    until(tab, "document.querySelector('#verdict').textContent === '1 anomaly open'")

    assert "99" in text(tab, "#figures")
    assert tab.evaluate("document.querySelectorAll('.log li').length") == 3
    assert tab.complaints == []
    tab.close()


def test_what_a_run_says_is_never_markup(browser: Browser, page: Shown) -> None:
    """A layer with the name of an element is shown as it is spelled."""
    tab = drawn(browser, page.url)

    assert LAYERS[3] in text(tab, "#heatmap")
    assert LAYERS[3] in text(tab, "#layers")
    assert tab.evaluate("document.querySelectorAll('main b').length") == 0
    tab.close()


def test_the_table_sorts_and_filters_thousands_of_rows(browser: Browser, page: Shown) -> None:
    """2,000 parameters: the largest comes first after a click, the filter counts, few rows are in the document."""
    feed(page, 1, first=60, num_parameters=2_000)
    tab = drawn(browser, page.url)
    tab.evaluate("document.querySelector('input[value=parameters]').click()")
    until(tab, "document.querySelector('#layers').innerText.includes('2,000 rows')")

    tab.evaluate(f"{SEEN % 'button'}.find(button => button.innerText.startsWith('Weights')).click()")
    visible = SEEN % "tbody tr:not([aria-hidden])"
    assert "1999.weight" in tab.evaluate(f"{visible}[0].innerText")
    assert "4000" in tab.evaluate(f"{visible}[0].innerText")
    assert tab.evaluate(f"{visible}.length") < 60

    tab.evaluate(f"window.field = {SEEN % 'input[type=search]'}[0]; field.value = 'ENCODER.0'")
    tab.evaluate("field.dispatchEvent(new Event('input'))")
    assert "500 of 2,000 rows" in text(tab, "#layers")
    tab.close()


def test_the_keyboard_reads_the_heatmap(browser: Browser, page: Shown) -> None:
    """Arrow keys move through the cells, and the cell is said."""
    tab = drawn(browser, page.url)

    tab.evaluate("document.querySelector('#heatmap canvas').focus()")
    for key in ("Home", "ArrowDown", "ArrowRight"):
        tab.call("Input.dispatchKeyEvent", {"type": "keyDown", "key": key, "code": key})

    assert text(tab, "#heatmap-cell").startswith("encoder.0, step 1: ")
    tab.close()


def test_everything_that_takes_the_focus_has_a_name(browser: Browser, page: Shown) -> None:
    """As a screen reader is told of it by the browser itself."""
    feed_trouble(page, 50)
    tab = drawn(browser, page.url)

    tab.call("Accessibility.enable")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    focusable = [
        node
        for node in nodes
        if any(each["name"] == "focusable" and each["value"]["value"] for each in node.get("properties", []))
        and node["role"]["value"] != "RootWebArea"
    ]
    unnamed = [node["role"]["value"] for node in focusable if not node.get("name", {}).get("value")]
    assert len(focusable) > 15
    assert [role for role in unnamed if role != "main"] == []
    tab.close()


def test_the_token_is_asked_for_and_kept(browser: Browser) -> None:
    """Without it there is a form and no run; a wrong one is said to be; the right one opens the page for the tab."""
    with shown(token="correct horse") as page:
        feed(page, 5)
        tab = browser.open(page.url)
        until(tab, "!document.querySelector('#token-form').hidden")
        assert tab.evaluate("document.querySelector('#main').hidden")
        give = "document.querySelector('#token').value = {}; document.querySelector('#token-form button').click()"
        tab.evaluate(give.format("'wrong'"))
        until(tab, "document.querySelector('#token-wrong').textContent.includes('not its token')")
        tab.evaluate(give.format("'correct horse'"))
        until(tab, "document.querySelector('#verdict').textContent === 'Healthy'")
        tab.close()


def test_the_token_may_come_with_the_address(browser: Browser) -> None:
    """After # it reaches no server, and it does not stay in sight."""
    with shown(token="t0ken") as page:
        feed(page, 5)
        tab = drawn(browser, f"{page.url}#token=t0ken")

        assert text(tab, "#verdict") == "Healthy"
        assert tab.evaluate("location.href") == page.url
        assert not any("t0ken" in address for address in tab.requests[1:])
        tab.close()


def test_the_end_of_the_run_is_said_and_the_next_one_found(browser: Browser) -> None:
    """The last state stays, said to be the last; a run that comes to the same address takes its place."""
    with shown() as page:
        feed(page, 60)
        port = page.server.port
        tab = drawn(browser, page.url)
        page.end()
        until(tab, "document.querySelector('#verdict').textContent === 'The run has ended'")
        assert "59" in text(tab, "#figures")
    with shown(port=port, run="run-2") as page:
        feed(page, 3)
        until(tab, "document.querySelector('#run').textContent === 'run-2'")
        assert "2" in text(tab, "#figures")
        assert text(tab, "#verdict") == "Healthy"
        tab.close()
