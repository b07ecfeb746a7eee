"""promtool's unit tests of rules: series in, firing alerts and recorded series out."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.python_process import ROOT

__all__ = ["RENDERED", "Case", "assert_cases", "labels", "needs_promtool", "run_promtool"]

RENDERED = ROOT / "dashboards" / "rendered"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool comes with prometheus, which is not installed"
)


@dataclass(frozen=True)
class Case:
    """Series, one value each `interval`, and what they come to."""

    series: Mapping[str, str]
    firing: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    """By time: the labels of the alerts that fire then, all of them."""
    values: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """By time and query: the values by series."""
    interval: str = "15s"


def run_promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it and return what it said."""
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)


def labels(**values: str) -> str:
    """Return a selector's labels, `{job="training"}`."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in values.items()) + "}"


def assert_cases(directory: Path, **cases: Case) -> None:
    """Assert that the rendered rules make of each case what it says; promtool names those that fail."""
    content = {
        "rule_files": [str(RENDERED / "rules.yaml")],
        "evaluation_interval": "15s",
        "tests": [{"name": name, **_test(case)} for name, case in cases.items()],
    }
    path = directory / "cases.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    done = run_promtool("test", "rules", str(path))

    assert done.returncode == 0, done.stdout + done.stderr


def _test(case: Case) -> dict[str, Any]:
    firing = [
        _query(
            'ALERTS{alertstate="firing"}', at, {"ALERTS" + labels(alertstate="firing", **each): 1 for each in alerts}
        )
        for at, alerts in case.firing.items()
    ]
    values = [_query(query, at, samples) for at, queries in case.values.items() for query, samples in queries.items()]
    return {
        "interval": case.interval,
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": firing + values,
    }


def _query(query: str, at: str, samples: Mapping[str, float]) -> dict[str, Any]:
    expected = [{"labels": name, "value": value} for name, value in samples.items()]
    return {"expr": query, "eval_time": at, "exp_samples": expected}
