"""A real headless Chromium for tests of pages: what it complains of, what it fetches, what it draws.

It is spoken to over the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) through a pair of
pipes, `--remote-debugging-pipe`: no port is open and no library is needed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Browser", "Tab"]

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_TIMEOUT_SECONDS = 60.0
_COUNT_COLOURS = """async source => {
    const image = new Image();
    image.src = source;
    await image.decode();
    const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height).data;
    return new Set(new Uint32Array(pixels.buffer)).size;
}"""


class Browser:
    """Runs from entering until leaving; `directory`, a temporary one, is its profile. It stops only its own process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._rest = b""
        self._tabs: dict[str, Tab] = {}

    @staticmethod
    def is_installed() -> bool:
        """Whether the binary `chromium` is on the path."""
        return shutil.which("chromium") is not None

    def __enter__(self) -> Self:
        """Start the process."""
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4: a shell puts the pipes there.
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        with (self._directory / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", script, "bash", "chromium", *_FLAGS, f"--user-data-dir={self._directory / 'profile'}"],
                pass_fds=(theirs_in, theirs_out),
                stdout=log,
                stderr=log,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process."""
        assert self._process is not None
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (AssertionError, BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self, url: str, *, width: int = 1280, height: int = 800, scheme: str = "light") -> Tab:
        """Return a tab of that size and colour scheme, in which `url` has loaded."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = self._tabs[session] = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        tab.call("Emulation.setDeviceMetricsOverride", size)
        tab.call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        tab.call("Page.navigate", {"url": url})
        while not tab.is_loaded:
            self._receive()
        return tab

    def num_colours(self, png: bytes) -> int:
        """Return how many different colours a picture has: one where nothing is drawn."""
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        tab = self.open("about:blank")
        number: int = tab.evaluate(f"({_COUNT_COLOURS})({json.dumps(source)})")
        tab.close()
        return number

    def call(self, method: str, parameters: Mapping[str, object] | None = None, session: str | None = None) -> Any:
        """Send a command and return its result; AssertionError with the browser's complaint."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": dict(parameters or {})}
        if session is not None:
            message["sessionId"] = session
        rest = memoryview(json.dumps(message).encode() + b"\0")
        while rest:
            rest = rest[os.write(self._out, rest) :]
        while (answer := self._receive()).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        """Return the next message; what happens in a tab is noted there first."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while b"\0" not in self._rest:
            is_ready, _, _ = select.select([self._in], [], [], deadline - time.monotonic())
            log = self._directory / "chromium.log"
            assert is_ready, f"Chromium says nothing for {_TIMEOUT_SECONDS} s: {log.read_text(errors='replace')}"
            more = os.read(self._in, 1 << 20)
            assert more, f"Chromium ended: {log.read_text(errors='replace')}"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("sessionId") in self._tabs and "method" in message:
            self._tabs[message["sessionId"]].note(message["method"], message["params"])
        return message


class Tab:
    """A page that is shown: `complaints` are its errors and warnings, `requests` the addresses it asked for."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.is_loaded = False

    def call(self, method: str, parameters: Mapping[str, object] | None = None) -> Any:
        """Send a command about this tab."""
        return self._browser.call(method, parameters, self._session)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which may be a promise."""
        answer = self.call("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True})
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, clip: Mapping[str, float] | None = None) -> bytes:
        """Return a PNG of the whole page, or of a rectangle of it (x, y, width, height)."""
        area = clip or self.call("Page.getLayoutMetrics")["cssContentSize"]
        rectangle = {name: area[name] for name in ("x", "y", "width", "height")} | {"scale": 1}
        answer = self.call("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": rectangle})
        return base64.b64decode(answer["data"])

    def close(self) -> None:
        """Close it; the browser goes on."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})

    def note(self, event: str, details: dict[str, Any]) -> None:
        """Take in what the browser says of the tab."""
        if event == "Page.loadEventFired":
            self.is_loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(details["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and details["type"] in {"error", "warning", "assert"}:
            self.complaints.append(json.dumps(details["args"]))
        elif event == "Log.entryAdded" and details["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(details["entry"]["text"])
