"""One browser for all tests of the live page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.browser import Browser


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests; each opens tabs of its own."""
    with Browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running
