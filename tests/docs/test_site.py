"""docs/build.py renders every page, and fails with file and line on what leads nowhere."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.browser import Browser
from tests.docs.fenced import PAGES, name_of
from tests.python_process import ROOT, run_python

SCRIPT = ROOT / "docs" / "build.py"
GOOD = {
    "README.md": "# Start\n\n[index](docs/README.md) [licence](LICENSE)\n\n## A part, and `more`\n",
    "docs/README.md": "# Index\n\n## Guides\n\n- [page](page.md#one)\n- [start](../README.md#a-part-and-more)\n",
    "docs/page.md": '# Page\n\n## One\n\n![a picture](images/a.png)\n\n<a href="README.md">up</a> <https://example.com/>\n',
    "docs/images/a.png": "",
    "docs/site.css": "",
    "LICENSE": "",
}


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    """The script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module("build")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the checkout."""
    out = tmp_path_factory.mktemp("site")
    run_python(str(SCRIPT), "--out", str(out))
    return out


def tree(root: Path, **changes: str) -> Path:
    """Write a small documentation, with something put at the end of pages."""
    for name, text in GOOD.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, text in changes.items():
        path = root / name
        path.write_text(path.read_text() + text if path.exists() else text)
    return root


def test_the_site_is_whole(site: Path) -> None:
    """There is a page for each page, and nothing of ours leads to what is not on the site."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == len(PAGES)

    for page in pages:
        text = page.read_text()
        inner = [link for link in re.findall(r'(?:href|src)="([^"#]+)', text) if not link.startswith("https://")]
        assert "site.css" in " ".join(inner)
        assert [link for link in inner if not (page.parent / link).exists()] == [], page
        assert ".md" not in " ".join(inner)


def test_links_are_rewritten(build: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pages to pages with their anchors, other files to the repository, other hosts as they are, and listed."""
    root = tree(tmp_path)

    assert build.main(["--out", str(tmp_path / "out")], root) == 0

    start = (tmp_path / "out" / "index.html").read_text()
    index = (tmp_path / "out" / "docs" / "index.html").read_text()
    page = (tmp_path / "out" / "docs" / "page.html").read_text()
    assert '<a href="page.html#one">' in index
    assert '<a href="../index.html#a-part-and-more">' in index
    assert '<a href="https://github.com/loopscope/loopscope/blob/main/LICENSE">' in start
    assert '<a href="index.html">up</a>' in page
    assert 'src="images/a.png"' in page
    assert (tmp_path / "out" / "docs" / "images" / "a.png").exists()
    assert "  https://example.com/\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "planted",
    [
        ("docs/page.md", "\n[gone](gone.md)\n", "docs/page.md:9: dead link to gone.md"),
        ("docs/page.md", "\n| a |\n|---|\n| [gone](../gone.py) |\n", "docs/page.md:11: dead link to ../gone.py"),
        ("docs/page.md", "\nsome\ntext [gone](images/b.png)\n", "docs/page.md:10: dead link to images/b.png"),
        ("docs/page.md", '\n<img src="images/b.png">\n', "docs/page.md:9: dead link to images/b.png"),
        ("docs/page.md", "\n[out](../../etc)\n", "docs/page.md:9: dead link to ../../etc"),
        ("README.md", "\n[two](docs/page.md#two)\n", "README.md:7: docs/page.md has no heading for #two"),
        ("README.md", "\n[here](#nowhere)\n", "README.md:7: README.md has no heading for #nowhere"),
        ("docs/lost.md", "# Lost\n", "docs/lost.md:1: no link leads here from README.md"),
        ("docs/images/b.png", "", "docs/images/b.png:1: no page shows it"),
        ("docs/page.md", "\n[lost](lost)\n", "docs/page.md:9: dead link to lost"),
    ],
)
def test_what_leads_nowhere_is_told(
    build: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], planted: tuple[str, str, str]
) -> None:
    """With its file and line; nothing is written then."""
    name, text, says = planted
    root = tree(tmp_path, **{name: text})

    assert build.main(["--out", str(tmp_path / "out")], root) == 1

    assert capsys.readouterr().err.splitlines() == [says]
    assert not (tmp_path / "out").exists()


def test_pages_that_only_know_each_other_are_lost(build: ModuleType, tmp_path: Path) -> None:
    """A link from a page that nobody reaches is none."""
    root = tree(tmp_path, **{"docs/a.md": "# A\n\n[b](b.md)\n", "docs/b.md": "# B\n\n[a](a.md)\n"})

    assert [fault.split(":")[0] for fault in build.faults(root, build.read_pages(root, build.MARKDOWN))] == [
        "docs/a.md",
        "docs/b.md",
    ]


def test_a_page_has_a_title(build: ModuleType, tmp_path: Path) -> None:
    """It is what the navigation calls it."""
    root = tree(tmp_path, **{"README.md": "\n[bare](docs/bare.md)\n", "docs/bare.md": "words\n"})

    assert build.faults(root, build.read_pages(root, build.MARKDOWN)) == ["docs/bare.md:1: it has no heading"]


def test_headings_of_one_name_are_told_apart(build: ModuleType, tmp_path: Path) -> None:
    """As GitHub numbers them."""
    root = tree(tmp_path, **{"docs/page.md": "\n## One\n\n## It's `x_y`: a -- b\n\n[second](#one-1)\n"})

    assert build.faults(root, build.read_pages(root, build.MARKDOWN)) == []
    assert build.read_pages(root, build.MARKDOWN)["docs/page.md"].anchors == {"page", "one", "one-1", "its-x_y-a----b"}


@pytest.mark.parametrize("page", [page for page in PAGES if "`" in page.read_text()], ids=name_of)
def test_files_exist(page: Path) -> None:
    """Every path in code type is there."""
    roots = "agent|benchmarks|dashboards|deploy|docs|examples|exporters|scripts|tests"
    paths = re.findall(rf"`((?:{roots})/[\w./-]*)`", page.read_text())

    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.skipif(not Browser.is_installed(), reason="chromium is not installed (apt-get install chromium)")
@pytest.mark.parametrize("width", [1280, 400])
def test_pages_fit_the_screen(site: Path, tmp_path: Path, width: int) -> None:
    """The long pages and the widest tables: nothing is wider than the screen, and the browser has no complaint."""
    with Browser(tmp_path) as browser:
        for name in ("index.html", "docs/symptoms.html", "docs/architecture.html", "docs/metrics.html"):
            tab = browser.open((site / name).as_uri(), width=width)
            assert tab.complaints == [], name
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
            tab.close()
