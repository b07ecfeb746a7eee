"""Render README.md and docs/ to a static site in build/docs, if every link leads somewhere.

A dead link, a missing heading, a page that no link leads to and an image that no page shows are printed as
`file:line: what`, and the exit status is 1. Links to other hosts are listed, not fetched.
"""

from __future__ import annotations

import argparse
import html
import posixpath
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from links import IMAGES, INDEX, Addresses, Page, faults, is_external, read_pages, resolve, targets_of
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import find_lexer_class_by_name
from pygments.util import ClassNotFound

REPOSITORY = "https://github.com/loopscope/loopscope/blob/main/"
"""Where a link to a file leads that is no page of the site."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · loopscope</title>
<link rel="stylesheet" href="{top}site.css">
</head>
<body>
<nav aria-label="Documentation"><p><a href="{top}index.html">loopscope</a></p>
{navigation}</nav>
<main>
{content}</main>
</body>
</html>
"""


def _highlight(code: str, language: str, attributes: str) -> str:
    try:
        lexer = find_lexer_class_by_name(language or "text")()
    except ClassNotFound:
        return ""  # as it is
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))


MARKDOWN = MarkdownIt("commonmark", {"html": True, "highlight": _highlight}).enable(["table", "strikethrough"])


def _to_html(path: str) -> str:
    return re.sub(r"(README)?\.md$", lambda found: "index.html" if found[1] else ".html", path)


def _rewrite(page: Page, pages: dict[str, Page], target: str) -> str:
    """Return where a link leads on the site."""
    path, anchor = resolve(page, target)
    if is_external(target) or not target.partition("#")[0] or path.startswith(IMAGES):
        return target
    if path not in pages:
        return REPOSITORY + path
    return posixpath.relpath(_to_html(path), posixpath.dirname(page.path) or ".") + (f"#{anchor}" if anchor else "")


def _link_anew(page: Page, pages: dict[str, Page]) -> None:
    for token in (each for outer in page.tokens for each in (outer, *(outer.children or ()))):
        for name in ("href", "src"):
            if token.attrGet(name):
                token.attrSet(name, _rewrite(page, pages, str(token.attrGet(name))))
        if token.type in {"html_inline", "html_block"}:
            for target in Addresses(token.content).found:
                token.content = token.content.replace(f'"{target}"', f'"{_rewrite(page, pages, target)}"')


def _navigation(page: Page, pages: dict[str, Page]) -> str:
    """Return the groups of the index page, that of this page open."""
    groups: list[tuple[str, list[str]]] = []
    index = pages[INDEX]
    for position, token in enumerate(index.tokens):
        if token.type == "heading_open" and token.tag == "h2":
            groups.append((index.tokens[position + 1].content, []))
        elif groups:
            groups[-1][1].extend(path for target in targets_of(token) if (path := resolve(index, target)[0]) in pages)
    parts = []
    for name, paths in groups:
        rows = [(posixpath.relpath(_to_html(path), posixpath.dirname(page.path) or "."), path) for path in paths]
        here = ' aria-current="page"'
        items = (
            f'<li><a href="{where}"{here * (path == page.path)}>{html.escape(pages[path].title)}</a></li>'
            for where, path in rows
        )
        opened = " open" * (page.path in paths or name == groups[0][0])
        parts.append(f"<details{opened}><summary>{html.escape(name)}</summary><ul>{''.join(items)}</ul></details>\n")
    return "".join(parts)


def write(root: Path, pages: dict[str, Page], out: Path) -> None:
    """Write the site."""
    navigations = {path: _navigation(page, pages) for path, page in pages.items()}
    for path, page in pages.items():
        _link_anew(page, pages)
        file = out / _to_html(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        content = MARKDOWN.renderer.render(page.tokens, MARKDOWN.options, {})
        top = "../" * path.count("/")
        text = _PAGE.format(title=html.escape(page.title), top=top, navigation=navigations[path], content=content)
        file.write_text(text, encoding="utf-8")
    shutil.copy(root / "docs" / "site.css", out / "site.css")
    if (root / IMAGES).is_dir():
        shutil.copytree(root / IMAGES, out / IMAGES, dirs_exist_ok=True)


def main(arguments: Sequence[str] | None = None, root: Path = Path(__file__).parents[1]) -> int:
    """Check and write the site; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=root / "build" / "docs", help="folder to write to")
    out = parser.parse_args(arguments).out
    pages = read_pages(root, MARKDOWN)
    wrong = faults(root, pages)
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    external = sorted({link.target for page in pages.values() for link in page.links if is_external(link.target)})
    write(root, pages, out)
    print(f"{len(pages)} pages: {out / 'index.html'}\n{len(external)} links to other hosts, not fetched:")
    print("".join(f"  {address}\n" for address in external), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
