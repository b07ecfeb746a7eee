"""scripts/screenshots.py takes the pictures of docs/images from a real run."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tests.browser import Browser
from tests.python_process import ROOT, run_python

pytestmark = pytest.mark.skipif(
    not Browser.is_installed(), reason="chromium is not installed (apt-get install chromium)"
)

KEPT = ROOT / "docs" / "images"
NAMES = sorted(path.name for path in KEPT.glob("*.png"))


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with new pictures."""
    out = tmp_path_factory.mktemp("images")
    run_python(str(ROOT / "scripts" / "screenshots.py"), "--out", str(out), cwd=out)
    return out


def size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">2I", content[16:24])
    return width, height


def test_all_are_taken(taken: Path) -> None:
    """The pictures that the pages show, and no others."""
    assert sorted(path.name for path in taken.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_picture_is_of_the_size_of_a_page(taken: Path, tmp_path: Path, name: str) -> None:
    """New and kept ones: as wide as a screen, no longer than one looks at, quick to load, and something is drawn."""
    with Browser(tmp_path) as browser:
        for folder in (taken, KEPT):
            width, height = size(folder / name)
            assert width == 1280
            assert 600 < height <= 1600
            assert (folder / name).stat().st_size < 300_000
            assert browser.num_colours((folder / name).read_bytes()) > 30
