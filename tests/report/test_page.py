"""The page has everything in itself, escapes what a log says, and stands whatever a log lacks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.builders import step_report
from tests.jsonl_logs import write
from tests.report.pages import EVIL, KINDS, write_log

from loopscope.report import Log, html_page, summarise

_VOID = {"meta", "link", "input", "br"}


class Outline(HTMLParser):
    """The elements of a page, and whether each is closed in turn."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it is the innermost open one that ends."""
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)

    def named(self, name: str) -> list[dict[str, str | None]]:
        """Return the attributes of the elements of that name."""
        return [attributes for tag, attributes in self.elements if tag == name]


def page_of(directory: Path, kind: str) -> str:
    """Return the page of a log of that kind."""
    return html_page(summarise(Log(write_log(directory, kind))))


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_whole_and_needs_nothing_else(tmp_path: Path, kind: str) -> None:
    """Every element is closed; no script, no address, no style of an element's own; every picture has a name."""
    page = page_of(tmp_path, kind)
    outline = Outline(page)

    assert outline.stack == []
    assert not outline.named("script")
    assert not outline.named("img")
    for _, attributes in outline.elements:
        assert not {"src", "style", "srcset", "action"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    addresses = [attributes["href"] or "" for tag in ("a", "link") for attributes in outline.named(tag)]
    assert all(address.startswith(("#", "data:,")) for address in addresses)
    assert "url(" not in page.partition("</style>")[0]
    pictures = [attributes for attributes in outline.named("svg") if attributes.get("class") != "inner"]
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)


def test_policy_allows_this_style_sheet_and_nothing_else(tmp_path: Path) -> None:
    """The content security policy names the hash of the one style sheet, and forbids the rest."""
    page = page_of(tmp_path, "full")

    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


def test_what_the_log_says_is_text(tmp_path: Path) -> None:
    """Markup in layers, lines, messages and settings is shown as it stands; controls are spelled out."""
    page = page_of(tmp_path, "evil")
    text = "".join(Outline(page).texts)

    assert "alert(1)" in text
    assert EVIL[0] in text
    assert EVIL[1] in text
    assert r"\x1b[31mred\x00" in text
    assert r"\ud800&amp;" in text
    assert "\x1b" not in page
    page.encode()  # no lone surrogate is left


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("full", ["vanishing gradient", "first cause", "Lower the learning rate.", "1 that followed", "train.py:1"]),
        ("full", ["Waits for the device", "Recompilations", "Graph breaks", "Learning rate", "Magnitude"]),
        ("nan", ["20 not finite", "no finite value", "never finite", "1 critical"]),
        ("gan", ["optimizer generator", "optimizer critic"]),
        ("wide", ["2,000 layers", "1,936 are left out", "transformer.layers.777.self_attention.projection"]),
        ("no_gradients", ["No gradients were logged."]),
        ("no_losses", ["Nothing was logged."]),
        ("no_steps", ["No step was logged."]),
        ("no_run", ["The line that introduces the run is missing"]),
        ("skipped", ["3 skipped"]),
        ("windows", ["Gradient norm by layer and window"]),
        ("epochs_alone", ["300 epochs, 4 a row"]),
        ("ranks", ["rank 0", "rank 2"]),
    ],
)
def test_page_says_what_is_there_and_what_is_not(tmp_path: Path, kind: str, words: list[str]) -> None:
    """What a log has is on its page; what it lacks is told, not drawn as zero."""
    text = "".join(Outline(page_of(tmp_path, kind)).texts)

    assert [word for word in words if word not in text] == []


def test_heatmap_says_the_health_of_every_cell(tmp_path: Path) -> None:
    """A cell's text has layer, epoch, norm, state and rule; one that is not healthy is marked by a letter as well."""
    page = page_of(tmp_path, "full")

    assert "head, epoch 3: norm 10 · vanishing (vanishing_gradient)" in page
    assert "encoder, epoch 3: norm 5 · healthy" in page
    assert len(re.findall(r'class="letter[^"]*">V<', page)) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_small(tmp_path: Path, kind: str) -> None:
    """No page of these is beyond 300 kB, 2,000 layers included."""
    assert len(page_of(tmp_path, kind).encode()) < 300_000


def test_page_of_a_long_run_is_no_larger_than_it_need_be(tmp_path: Path) -> None:
    """30,000 steps are thinned to a few hundred kB, and the one that was not finite is still told."""
    path = tmp_path / "long.jsonl"
    write(path, step_report(gradients=None))
    entry = json.loads(path.read_text())
    with path.open("a") as file:
        for step in range(1, 30_000):
            loss = "NaN" if step == 12_345 else 3.0 + step % 17
            file.write(json.dumps(entry | {"step": step, "loss": loss}) + "\n")

    page = html_page(summarise(Log(path)))

    assert len(page.encode()) < 300_000
    assert re.search(r"steps 12,[\d,]+ to 12,[\d,]+: 1 not finite", page)
