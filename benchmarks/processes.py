"""Child: the parent's handle on one benchmark process, which it lets run one block at a time and scrapes meanwhile."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Child", "clean_environment", "scrape"]

_HERE = Path(__file__).resolve().parent
_SCRAPE_SECONDS = 5.0
"""As often as a Prometheus that looks closely; its own default is a minute."""
_PATIENCE_SECONDS = 600.0
_ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_TOP_PAD_": str(2**26)}
"""Have glibc keep the memory that it has: else a ResNet step takes 20,000 to 40,000 page faults, as luck places its
tensors, which is 5 % of its time and moved the null contender by as much (see mallopt(3))."""


def clean_environment() -> dict[str, str]:
    """Return the environment for a child: this checkout's loopscope, and none of the caller's settings for it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOPSCOPE_")}
    roots = [str(_HERE.parent / root) for root in ("agent", "exporters")]
    environment["PYTHONPATH"] = os.pathsep.join([*roots, *filter(None, [environment.get("PYTHONPATH")])])
    return environment


def scrape(url: str, path: str = "/metrics") -> bytes:
    """Return what a Prometheus gets from an agent; with the path of its API, what the live page does."""
    with urllib.request.urlopen(f"{url}{path}", timeout=10) as response:
        body: bytes = response.read()
    return body


class Child:
    """One contender on one workload in a fresh process, started at once, ready when its context is entered.

    An agent in it is scraped every five seconds of the time that it is running, so that the server's share counts.
    `keeps_memory` False leaves the allocator as it comes.
    """

    def __init__(self, workload: str, contender: str, *, keeps_memory: bool = True) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "child.py"), workload, contender],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment() | (_ALLOCATOR if keeps_memory else {}),
        )
        self._name = f"{workload}/{contender}"
        self._until_scrape_seconds = _SCRAPE_SECONDS
        self.hello: dict[str, Any] = {}
        self.url: str | None = None

    def run(self, num_steps: int) -> dict[str, Any]:
        """Run a block of steps and return what it took (see child.py)."""
        return self._ask({"steps": num_steps}, self.url)

    def start_recording(self, seconds: float) -> None:
        """Have it note the time of each step for a while; `finish_recording` has the result."""
        self._write({"record_seconds": seconds})

    def finish_recording(self) -> dict[str, Any]:
        """Wait for the end of the recording and return it."""
        return self._answer(None)

    def __enter__(self) -> Self:
        self.hello = self._answer(None)
        self.url = self.hello["url"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    def _ask(self, request: dict[str, Any], url: str | None) -> dict[str, Any]:
        self._write(request)
        return self._answer(url)

    def _write(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self, url: str | None) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            begin = time.monotonic()
            ready, _, _ = select.select([self._process.stdout], [], [], max(self._until_scrape_seconds, 0.0))
            if url is not None:
                self._until_scrape_seconds -= time.monotonic() - begin
            if ready:
                line = self._process.stdout.readline()
                if not line:
                    raise RuntimeError(f"{self._name} ended early: its error is above")
                answer: dict[str, Any] = json.loads(line)
                return answer
            if url is not None:
                scrape(url)
                self._until_scrape_seconds = _SCRAPE_SECONDS
        raise TimeoutError(f"{self._name} has not answered for {_PATIENCE_SECONDS:.0f} s")
