"""The live page where things go wrong around it: proxies, other runs, what is chosen while it is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.browser import Browser, Tab
from tests.builders import epoch_report, event, run_info, step_report
from tests.exporters.live.pages import Shown, feed, shown
from tests.exporters.live.tabs import drawn, text, until
from tests.web import request

from loopscope_exporters.live import LiveExporter

pytestmark = pytest.mark.skipif(
    not Browser.is_installed(), reason="chromium is not installed (apt-get install chromium)"
)

TELLINGS = """window.told = [];
new MutationObserver(changes => changes.forEach(({target}) => {
    const region = (target.nodeType === 1 ? target : target.parentElement).closest("[role=status], [role=alert]");
    if (region && region.ariaLive !== "off") told.push(region.textContent);
})).observe(document.body, {subtree: true, childList: true, characterData: true});"""

PLOT = "document.querySelector('.u-over')"
STEPS = "Array.from(document.querySelectorAll('.u-legend tr:first-child .u-value'), each => Number(each.innerText))"


class Proxy:
    """Passes on what is under /runs/7/ to `upstream`; without one it answers as proxies do, with `status`."""

    def __init__(self) -> None:
        self.upstream: str | None = None
        self.status = 502
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = proxy.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/runs/7/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, type and body."""
        if self.upstream is None or not path.startswith("/runs/7/"):
            return self.status, "text/html", b"<h1>Not today</h1>"
        answer = request(self.upstream + path.removeprefix("/runs/7/"))
        return answer.status, answer.headers["content-type"], answer.body


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """One that has nobody behind it yet."""
    proxy = Proxy()
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()


@pytest.fixture
def page() -> Iterator[Shown]:
    """A run of 60 steps."""
    with shown() as page:
        feed(page, 60)
        yield page


def choose(tab: Tab, selector: str, value: str) -> None:
    """As a person does it."""
    tab.evaluate(f"document.querySelector('{selector}').value = '{value}'")
    tab.evaluate(f"document.querySelector('{selector}').dispatchEvent(new Event('change'))")


@pytest.mark.parametrize(("status", "said"), [(502, "The run has ended"), (500, "Healthy"), (404, "The run has ended")])
def test_behind_a_proxy_the_page_outlives_its_refusals(
    browser: Browser, page: Shown, proxy: Proxy, status: int, said: str
) -> None:
    """Under a path of its own all is found; whatever the proxy says in between, the page goes on asking."""
    proxy.upstream, proxy.status = page.url, status
    tab = drawn(browser, proxy.url)
    assert tab.complaints == []
    assert all(address.startswith(proxy.url) for address in tab.requests)

    proxy.upstream = None
    until(tab, "document.querySelector('#link').className.includes('gone')")
    assert text(tab, "#verdict") == said
    feed(page, 5, first=60)
    proxy.upstream = page.url

    until(tab, "document.querySelector('#link').className.includes('live')")
    assert "64" in text(tab, "#figures")
    assert text(tab, "#verdict") == "Healthy"
    tab.close()


def test_what_is_chosen_is_what_is_shown(browser: Browser, page: Shown) -> None:
    """Of an agent that resembles the other in number and place: its incidents and epochs, not those of the other."""
    other = LiveExporter(page.server)
    other.export(run_info(agent="other", run="run-1"))
    other.export(step_report(59, agent="other"))
    for exporter, agent in ((page.exporter, "model"), (other, "other")):
        exporter.export(event("loss_spike", "warning", 5, layer=None, message=f"It was {agent}.", agent=agent))
    other.export(epoch_report(last_step=59, loss=777.0))
    tab = drawn(browser, page.url)
    assert "It was model." in text(tab, ".incident")

    choose(tab, "#agent", "other")

    until(tab, "document.querySelector('.incident').innerText.includes('It was other.')")
    assert "777" in text(tab, "#epochs")
    assert "It was model." not in text(tab, "#events")
    other.close()
    until(tab, "document.querySelector('.incident').innerText.includes('It was model.')")
    tab.close()


def test_a_run_without_a_step_shows_none_of_another(browser: Browser) -> None:
    """Where there is nothing to draw yet there is no empty chart, and none of the run before."""
    with shown() as page:
        feed(page, 60)
        port = page.server.port
        tab = drawn(browser, page.url)
    with shown(port=port, run="run-2"):
        until(tab, "document.querySelector('#run').textContent === 'run-2'")
        assert text(tab, "#verdict") == "Waiting for the first step"
        shown_canvases = "Array.from(document.querySelectorAll('canvas')).filter(each => each.offsetParent).length"
        assert tab.evaluate(shown_canvases) == 0
        assert "59" not in text(tab, "#main")
        tab.close()


def test_a_screen_reader_is_not_told_of_every_poll(browser: Browser, page: Shown) -> None:
    """Of steps that come nothing is said aloud; of the end it is, once."""
    tab = drawn(browser, page.url)
    until(tab, "document.querySelector('#link').className.includes('live')")
    tab.evaluate(TELLINGS)
    feed(page, 5, first=60)
    until(tab, "document.querySelector('#figures').innerText.includes('64')")
    feed(page, 5, first=65)
    until(tab, "document.querySelector('#figures').innerText.includes('69')")
    assert tab.evaluate("told") == []

    page.end()
    until(tab, "document.querySelector('#verdict').textContent === 'The run has ended'")

    assert sorted(tab.evaluate("told")) == ["The run has ended", "the run has ended or its process is gone"]
    assert tab.evaluate("document.querySelector('#verdict').matches('h2:not([role])')")
    tab.close()


def test_what_was_zoomed_stays_until_it_is_reset(browser: Browser, page: Shown) -> None:
    """A drag shows a part, in all charts; steps that come leave it; a double click shows all again, in all charts."""
    tab = drawn(browser, page.url)
    box = tab.evaluate(f"(({{x, y, width}}) => ({{x, y, width}}))({PLOT}.getBoundingClientRect())")

    def mouse(kind: str, x: float, *, is_down: bool = True, clicks: int = 1) -> None:
        at = {"x": box["x"] + x, "y": box["y"] + 40, "button": "left" if is_down else "none", "clickCount": clicks}
        tab.call("Input.dispatchMouseEvent", {"type": kind, "buttons": int(is_down), **at})

    def until_charts_end(condition: str) -> None:
        """Wait for the steps at the right edges of the charts, as their legends name them."""
        mouse("mouseMoved", box["width"] / 2, is_down=False)
        mouse("mouseMoved", box["width"] - 8, is_down=False)  # wider labels may leave the charts less room
        until(tab, f"{STEPS}.every(step => {condition})")

    until_charts_end("step > 59 - 3")
    mouse("mousePressed", box["width"] / 4)
    mouse("mouseMoved", box["width"] / 2)
    mouse("mouseReleased", box["width"] / 2)
    until_charts_end("step > 20 && step < 40")
    feed(page, 40, first=60)
    until(tab, "document.querySelector('#figures').innerText.includes('99')")
    tab.evaluate("document.querySelector('#theme-dark').click()")
    until_charts_end("step > 20 && step < 40")
    for clicks in (1, 2):
        mouse("mousePressed", 60, clicks=clicks)
        mouse("mouseReleased", 60, clicks=clicks)
    until_charts_end("step > 99 - 3")
    feed(page, 10, first=100)
    until(tab, "document.querySelector('#figures').innerText.includes('109')")
    until_charts_end("step > 109 - 3")
    tab.close()
