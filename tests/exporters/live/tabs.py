"""Looking at the live page in a tab: waiting for what is to come, and reading what stands there."""

from __future__ import annotations

import json

from tests.browser import Browser, Tab

__all__ = ["drawn", "text", "until"]

UNTIL = """new Promise((resolve, reject) => {
    const started = performance.now();
    const look = () => {
        if (%s) resolve(true);
        else if (performance.now() - started > 20000) reject(new Error(document.body.innerText));
        else setTimeout(look, 50);
    };
    look();
})"""


def until(tab: Tab, condition: str) -> None:
    """Wait until a condition of the page holds; AssertionError with its text after 20 s."""
    assert tab.evaluate(UNTIL % condition)


def text(tab: Tab, selector: str) -> str:
    """What stands there."""
    return str(tab.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))


def drawn(browser: Browser, url: str, **size: object) -> Tab:
    """A tab in which the run has been drawn."""
    tab = browser.open(url, **size)  # type: ignore[arg-type]
    until(tab, "document.querySelector('#verdict')?.textContent && !document.querySelector('#main').hidden")
    return tab
