"""Rules of every test: strict faults, no settings from outside, no skip of what is required."""

from __future__ import annotations

import os

import pytest
import torch

_REQUIRE = "LOOPSCOPE_REQUIRE_"
_required = [
    name.removeprefix(_REQUIRE).lower()
    for name, value in os.environ.items()
    if name.startswith(_REQUIRE) and value == "1"
]

# Before loopscope is imported. The requirements go too: they are no settings, and Config would warn of them.
for _name in [name for name in os.environ if name.startswith("LOOPSCOPE_")]:
    del os.environ[_name]
os.environ["LOOPSCOPE_STRICT"] = "1"
# Without a buffer each part of a printed line is a write of its own, and what else writes to the pipe comes between.
os.environ.pop("PYTHONUNBUFFERED", None)

torch.set_num_threads(1)


# Not where the report is made: with xdist these run in the parent, which still knows what is required.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Fail a skipped test where LOOPSCOPE_REQUIRE_<WORD>=1 and the reason has the word."""
    _fail_if_required(report)


@pytest.hookimpl(tryfirst=True)
def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Fail a module that is skipped as a whole likewise."""
    _fail_if_required(report)


def _fail_if_required(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return
    path, line, reason = report.longrepr
    for word in _required:
        if word in reason.lower():
            report.outcome = "failed"
            report.longrepr = f"{path}:{line}: {_REQUIRE}{word.upper()} is set, but: {reason}"
