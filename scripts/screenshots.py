"""Take the pictures of docs/images from a real run: the demo with a NaN planted, its live page, and its report."""

from __future__ import annotations

import argparse
import json
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser, Tab  # noqa: E402 - the browser that the tests look at pages with

WIDTH = 1280
MAX_BYTES = 300_000
SECONDS = 90.0
COMMAND = (sys.executable, "-u", "-m", "loopscope.cli")
LIVE_IS_DRAWN = "document.querySelector('#verdict')?.textContent && !document.querySelector('#main').hidden"
LIVE_END = "document.querySelector('#heatmap').getBoundingClientRect().bottom + scrollY + 24"
REPORT_END = """Math.max(...Array.from(
    document.querySelectorAll("figure, section"), each => each.getBoundingClientRect().bottom + 16
).filter(bottom => bottom < 1500))"""


@contextmanager
def demo(folder: Path) -> Iterator[str]:
    """Train with a NaN planted, and yield the address at which the run is served once training is done."""
    command = (*COMMAND, "demo", "--pathology", "nan", "--port", "0", "--keep", "--jsonl", str(folder / "run.jsonl"))
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _address(process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"Serving (http://\S+)/\S* until Ctrl-C", line):
            return found[1]
    raise SystemExit(f"screenshots: the demo ended without serving anything:\n{said}")


def picture(tab: Tab, condition: str, end: str) -> bytes:
    """Return what a tab shows from its top down to `end`, once `condition` holds and nothing moves any more."""
    until = time.monotonic() + SECONDS
    before = b""
    while time.monotonic() < until:
        if tab.evaluate(f"Boolean({condition})"):
            height = float(tab.evaluate(end))
            now = tab.picture({"x": 0, "y": 0, "width": WIDTH, "height": height})
            if now == before:
                return now
            before = now
        time.sleep(0.3)
    raise SystemExit(f"screenshots: the page is not still after {SECONDS:g} s")


def take(out: Path) -> list[Path]:
    """Write the pictures and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, Browser(Path(name)) as browser, demo(Path(name)) as url:
        pictures = {}
        for suffix, scheme in (("", "light"), ("-dark", "dark")):
            tab = browser.open(f"{url}/", width=WIDTH, scheme=scheme)
            pictures[f"live-page{suffix}.png"] = picture(tab, LIVE_IS_DRAWN, LIVE_END)
            tab.close()
        report = Path(name, "report.html")
        subprocess.run((*COMMAND, "report", str(Path(name, "run.jsonl")), "-o", str(report)), check=True)
        pictures["report.png"] = picture(browser.open(report.as_uri(), width=WIDTH), "document.body", REPORT_END)
    for name, content in pictures.items():
        (out / name).write_bytes(content)
    return [out / name for name in pictures]


def main(arguments: Sequence[str] | None = None) -> int:
    """Take them and say what they are; 1 without Chromium, or where one is too large for a page that loads fast."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder to write to")
    out = parser.parse_args(arguments).out
    if not Browser.is_installed():
        print("screenshots: chromium is not on PATH. Install it: apt-get install chromium (as root).", file=sys.stderr)
        return 1
    paths = take(out)
    for path in paths:
        content = path.read_bytes()
        print(json.dumps({"path": str(path), "size": struct.unpack(">2I", content[16:24]), "bytes": len(content)}))
    return int(any(path.stat().st_size > MAX_BYTES for path in paths))


if __name__ == "__main__":
    raise SystemExit(main())
