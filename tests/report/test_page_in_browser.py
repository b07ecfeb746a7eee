"""The page in a real Chromium: it complains of nothing, fetches nothing, draws every chart, and fits the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest
from tests.browser import Browser
from tests.report.pages import KINDS, write_log

from loopscope.report import Log, html_page, summarise

pytestmark = pytest.mark.skipif(
    not Browser.is_installed(), reason="chromium is not installed (apt-get install chromium)"
)

SIZES = (1280, 400)
SCHEMES = ("light", "dark")
GROUND_AND_TEXT = ("backgroundColor", "color")
PICTURES = """Array.from(document.querySelectorAll("svg[role=img]"), svg => {
    const box = svg.getBoundingClientRect();
    return {name: svg.getAttribute("aria-label"), x: box.x + scrollX, y: box.y + scrollY,
            width: box.width, height: box.height, shapes: svg.querySelectorAll("path, rect").length};
})"""

HIDE_LABELS = """document.querySelectorAll("svg text, svg .grid, svg .axis, svg .across").forEach(
    shape => { shape.style.visibility = "hidden"; })"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests; each opens tabs of its own."""
    with Browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The address of the page of every kind of log."""
    directory = tmp_path_factory.mktemp("pages")
    addresses = {}
    for kind in KINDS:
        path = directory / f"{kind}.html"
        path.write_text(html_page(summarise(Log(write_log(directory, kind)))), encoding="utf-8")
        addresses[kind] = path.as_uri()
    return addresses


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_complained_of_and_nothing_is_fetched(browser: Browser, pages: Mapping[str, str], kind: str) -> None:
    """No message on the console, no request beside the page's own, and no script of the log's has run."""
    tab = browser.open(pages[kind])

    assert tab.complaints == []
    assert [address for address in tab.requests if not address.startswith("data:")] == [pages[kind]]
    tab.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", SIZES)
def test_page_fits_the_screen(browser: Browser, pages: Mapping[str, str], kind: str, width: int) -> None:
    """It never scrolls sideways: what is wider does so within its own frame. Every chart has a place and shapes."""
    tab = browser.open(pages[kind], width=width)

    assert tab.evaluate("document.documentElement.scrollWidth") == width
    for picture in tab.evaluate(PICTURES):
        assert picture["width"] > 100, picture
        assert picture["height"] > 20, picture
        assert picture["shapes"] > 0, picture
        assert picture["x"] >= 0, picture
        assert picture["x"] + picture["width"] <= width, picture
    tab.close()


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["full", "nan"])
def test_every_chart_is_drawn(browser: Browser, pages: Mapping[str, str], kind: str, scheme: str, width: int) -> None:
    """Without its labels and grid, a picture of each chart still has the colours of lines and their edges."""
    tab = browser.open(pages[kind], width=width, scheme=scheme)
    pictures = tab.evaluate(PICTURES)
    tab.evaluate(HIDE_LABELS)

    assert len(pictures) >= (5 if kind == "full" else 4)
    for picture in pictures:
        assert browser.num_colours(tab.picture(picture)) > 3, picture["name"]
    tab.close()


@pytest.mark.parametrize(("scheme", "is_bright"), [("light", True), ("dark", False)])
def test_page_follows_the_scheme_of_the_system(
    browser: Browser, pages: Mapping[str, str], scheme: str, is_bright: bool
) -> None:
    """The ground is bright where the system's scheme is light, and the text stands out from it by 12 to 1."""
    tab = browser.open(pages["full"], scheme=scheme)

    ground, text = (luminance(tab.evaluate(f"getComputedStyle(document.body).{name}")) for name in GROUND_AND_TEXT)

    assert (ground > 0.5) == is_bright
    assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) > 12
    tab.close()


@pytest.mark.parametrize(("scheme", "theme"), [("light", "dark"), ("dark", "light")])
def test_reader_can_choose_the_colours(browser: Browser, pages: Mapping[str, str], scheme: str, theme: str) -> None:
    """The buttons at the top win over the system's scheme."""
    tab = browser.open(pages["full"], scheme=scheme)
    ground = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(ground)

    tab.evaluate(f"document.getElementById('theme-{theme}').click()")

    other = browser.open(pages["full"], scheme=theme)
    assert tab.evaluate(ground) == other.evaluate(ground) != before
    tab.close()
    other.close()


@pytest.mark.parametrize("width", SIZES)
def test_labels_do_not_overlap(browser: Browser, pages: Mapping[str, str], width: int) -> None:
    """The labels of an axis have room beside each other, on a narrow screen too."""
    tab = browser.open(pages["full"], width=width)

    overlapping = tab.evaluate("""Array.from(document.querySelectorAll("svg[role=img]")).flatMap(svg => {
        const boxes = Array.from(svg.querySelectorAll("text.tick"), text => text.getBoundingClientRect());
        return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b =>
            a.left < b.right && b.left < a.right && a.top < b.bottom - 3 && b.top < a.bottom - 3
        ).map(() => svg.getAttribute("aria-label")));
    })""")

    assert overlapping == []
    tab.close()


def luminance(colour: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)` (https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    channels = [int(channel) / 255 for channel in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
