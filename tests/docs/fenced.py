"""The pages of the documentation as Markdown sees them: fenced blocks and code spans, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from tests.python_process import ROOT

__all__ = ["PAGES", "Block", "blocks", "name_of", "spans"]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A block of code: its language is what stands behind the fence, empty for an indented one."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        """The place, as `docs/live.md:12`."""
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """Return the path of a page from the root."""
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in these languages; of all languages without any."""
    found = [
        Block(page, token.map[0] + 2, token.info.strip(), token.content)  # the fence itself is a line
        for page in PAGES
        for token in _tokens(page)
        if token.type in {"fence", "code_block"} and token.map
    ]
    return [block for block in found if not languages or block.language in languages]


def spans(page: Path) -> list[str]:
    """Return what stands between backticks on a page."""
    inner = (child for token in _tokens(page) for child in token.children or ())
    return [" ".join(child.content.split()) for child in inner if child.type == "code_inline"]


def _tokens(page: Path) -> Iterator[Token]:
    yield from MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
