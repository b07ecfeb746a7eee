"""The pages of the documentation and their links: what is dead, which heading is missing, what nobody shows."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

START, INDEX, IMAGES = "README.md", "docs/README.md", "docs/images"


@dataclass(frozen=True)
class Link:
    """A link or an image of a page."""

    line: int
    target: str


@dataclass
class Page:
    """A Markdown file: its tokens, the anchors of its headings, and its links."""

    path: str
    tokens: list[Token]
    title: str = ""
    anchors: set[str] = field(default_factory=set)
    links: list[Link] = field(default_factory=list)


class Addresses(HTMLParser):
    """The addresses in a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Take in the addresses of a tag."""
        self.found += [value for name, value in attributes if name in {"href", "src", "srcset"} and value]


def read_pages(root: Path, markdown: MarkdownIt) -> dict[str, Page]:
    """Return the pages below `root` by their paths."""
    files = [root / START, *sorted((root / "docs").rglob("*.md"))]
    return {page.path: page for page in (_read(root, file, markdown) for file in files)}


def _read(root: Path, file: Path, markdown: MarkdownIt) -> Page:
    text = file.read_text(encoding="utf-8")
    page = Page(file.relative_to(root).as_posix(), markdown.parse(text))
    lines = text.splitlines()
    for index, token in enumerate(page.tokens):
        if token.type == "heading_open":
            words = "".join(child.content for child in page.tokens[index + 1].children or ())
            token.attrSet("id", _anchor(words, page.anchors))
            page.title = page.title or words
        first = token.map[0] if token.map else 0
        for target in targets_of(token):
            line = next((n for n in range(first, len(lines)) if target in lines[n]), first)
            page.links.append(Link(line + 1, target))
    return page


def _anchor(words: str, taken: set[str]) -> str:
    """Return the anchor that GitHub gives a heading, and note that it is taken."""
    plain = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
    anchor = next(name for name in (plain, *(f"{plain}-{n}" for n in range(1, 1000))) if name not in taken)
    taken.add(anchor)
    return anchor


def targets_of(token: Token) -> Iterator[str]:
    """Return where the links and images of a token lead."""
    for each in (token, *(token.children or ())):
        if each.type in {"link_open", "image"}:
            yield str(each.attrGet("href") or each.attrGet("src"))
        elif each.type in {"html_inline", "html_block"}:
            yield from Addresses(each.content).found


def is_external(target: str) -> bool:
    """Whether a link leads to another host, or to no page at all (`mailto:`)."""
    return re.match(r"[a-z][a-z+.-]*:", target) is not None


def resolve(page: Page, target: str) -> tuple[str, str]:
    """Return the path from the root that a link leads to, and its anchor."""
    path, _, anchor = target.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(page.path), path)) if path else page.path, anchor


def faults(root: Path, pages: dict[str, Page]) -> list[str]:
    """Return what is wrong with the links, each with its file and line, and the pages and images that nobody shows."""
    found, used = [], {START}
    for page in pages.values():
        for link in page.links:
            if is_external(link.target):
                continue
            path, anchor = resolve(page, link.target)
            used.add(path)
            if path.startswith("../") or not (root / path).exists():
                found.append(f"{page.path}:{link.line}: dead link to {link.target}")
            elif anchor and path in pages and anchor not in pages[path].anchors:
                found.append(f"{page.path}:{link.line}: {path} has no heading for #{anchor}")
    reached, waiting = {START}, [START]
    while waiting:
        here = pages[waiting.pop()]
        linked = {resolve(here, link.target)[0] for link in here.links if not is_external(link.target)}
        waiting += (new := sorted((linked & pages.keys()) - reached))
        reached.update(new)
    images = {file.relative_to(root).as_posix() for file in (root / IMAGES).glob("*")}
    found += [f"{path}:1: no link leads here from {START}" for path in sorted(pages.keys() - reached)]
    found += [f"{path}:1: no page shows it" for path in sorted(images - used)]
    return found + [f"{path}:1: it has no heading" for path, page in pages.items() if not page.title]
