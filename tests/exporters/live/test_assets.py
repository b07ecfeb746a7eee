"""The page's files: all are served, they load nothing from elsewhere, what is not ours is as released."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web import request

import loopscope_exporters.live
from loopscope_exporters.live import LiveExporter
from loopscope_exporters.live.assets import ASSETS
from loopscope_exporters.security import Security
from loopscope_exporters.server import MetricsServer

FOLDER = Path(loopscope_exporters.live.__file__).parent / "page"
OURS = sorted(path for path in FOLDER.glob("*.*"))
RELEASED = {
    "uPlot.esm.js": "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""SHA-256 of the files of uplot 1.6.32 as the npm registry has them."""


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """A server that asks for a token, with one agent."""
    server = MetricsServer(port=0, security=Security(token="secret"))
    exporter = LiveExporter(server)
    yield server
    exporter.close()


@pytest.mark.parametrize("path", ASSETS)
def test_files_are_served_without_a_token(server: MetricsServer, path: str) -> None:
    """They hold nothing of the run: a browser that opens the page has no token yet."""
    answer = request(server.url + path)

    assert answer.status == 200
    assert answer.body == (FOLDER / ASSETS[path]).read_bytes()
    assert answer.headers["content-type"].partition("/")[0] in {"text", "image"}
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/api/live", "/api/state", "/api/parameters", "/page/", "/page/../live/state.py"])
def test_everything_else_is_asked_for_it(server: MetricsServer, path: str) -> None:
    """What tells of the run, and what is not there at all."""
    assert request(server.url + path).status == 401


def test_the_policy_lets_nothing_in_but_the_servers_own_files(server: MetricsServer) -> None:
    """No inline script or style, no frame, no form, no address elsewhere."""
    policy = dict(
        directive.split(" ", 1) for directive in request(server.url).headers["content-security-policy"].split("; ")
    )

    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("form-action") == "'none'"
    assert policy.pop("frame-ancestors") == "'none'"
    assert set(policy.values()) == {"'self'"}


def test_every_file_is_served() -> None:
    """A module that is added and not listed would be missed by the page alone."""
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}

    assert set(ASSETS.values()) == files - {"uplot/LICENSE"}


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_our_files_name_no_address_elsewhere(path: Path) -> None:
    """Neither a script nor a font, and no inline code, which the policy would refuse."""
    text = path.read_text()

    assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert not re.search(r"\sstyle=|\son\w+=\"", text)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")), ids=lambda path: path.name)
def test_modules_import_what_is_there_and_what_they_use(path: Path) -> None:
    """Every import names an export of its file, and every imported name is used."""
    text = path.read_text()
    for names, source in re.findall(r"import \{([^}]*)\} from \"\./([^\"]+)\"", text):
        exported = set(re.findall(r"export (?:async )?(?:const|function|class) (\w+)", (FOLDER / source).read_text()))
        wanted = {name.strip() for name in names.split(",") if name.strip()}
        assert wanted <= exported
        for name in wanted:
            assert len(re.findall(rf"\b{name}\b", text)) > 1, name
    assert len(text.splitlines()) <= 300


@pytest.mark.parametrize("name", RELEASED)
def test_what_is_not_ours_is_as_released(name: str) -> None:
    """Byte for byte."""
    assert hashlib.sha256((FOLDER / "uplot" / name).read_bytes()).hexdigest() == RELEASED[name]
