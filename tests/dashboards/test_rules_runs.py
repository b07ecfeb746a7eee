"""Alerts on the run itself: each fires on what it is for, and stays silent on what only looks like it.

Time begins at 0 with the first value; `0+15x80` is a step at each scrape, every 15 s.
"""

from __future__ import annotations

import pytest
from tests.promtool import Case, assert_cases, labels, needs_promtool

pytestmark = needs_promtool

TARGET = {"job": "training", "instance": "host:9464"}
AGENT = {**TARGET, "agent": "model"}
UP = "up" + labels(**TARGET)
INFO = "loopscope_run_info" + labels(**AGENT, run="a")
LATEST = "loopscope_last_step_timestamp_seconds" + labels(**AGENT)
STEPS = "loopscope_steps_total" + labels(**AGENT)
SUM = "loopscope_step_duration_seconds_sum" + labels(**AGENT)
COUNT = "loopscope_step_duration_seconds_count" + labels(**AGENT)
DROPPED = "loopscope_dropped_reports_total" + labels(**AGENT)

STALLED = {"alertname": "LoopscopeRunStalled", "severity": "critical", **TARGET}
NO_FIRST_STEP = {"alertname": "LoopscopeNoFirstStep", "severity": "warning", **TARGET}
DOWN = {"alertname": "LoopscopeTargetDown", "severity": "warning", **TARGET}


def of(name: str, **changes: str) -> str:
    """Return the series of a metric for another agent, rank or optimizer."""
    return name + labels(**{**AGENT, **changes})


@pytest.mark.parametrize(
    ("series", "firing"),
    [
        pytest.param({LATEST: "0+15x20 300x100", UP: "1x120"}, {"19m45s": [], "20m30s": [STALLED]}, id="hangs"),
        pytest.param(
            {LATEST: "0+15x20 300x100", SUM: "0x120", COUNT: "0x120", UP: "1x120"},
            {"20m30s": [STALLED]},
            id="hangs-after-its-first-step-which-has-no-duration",
        ),
        pytest.param({LATEST: "0+15x20 300x100"}, {"20m30s": [STALLED]}, id="hangs-where-up-is-not-known"),
        pytest.param(
            {LATEST: "-3600+15x20 -3300x100", UP: "1x120"},
            {"19m30s": [], "20m30s": [STALLED]},
            id="hangs-with-a-slow-clock",
        ),
        pytest.param(
            {LATEST: "0+15x20 300x64 1275+15x40", UP: "1x120"},
            {"21m": [STALLED], "24m": []},
            id="goes-on-again",
        ),
        pytest.param(
            {of("loopscope_last_step_timestamp_seconds", rank="0"): "0+15x120", UP: "1x120"}
            | {of("loopscope_last_step_timestamp_seconds", instance="host:9465", rank="1"): "0+15x20 300x100"},
            {"20m30s": [{**STALLED, "instance": "host:9465", "rank": "1"}]},
            id="one-rank-hangs",
        ),
    ],
)
def test_stalled_run_is_told(tmp_path, series, firing):
    """A run that is there and has taken no step for 15 minutes stands still."""
    assert_cases(tmp_path, case=Case(series, firing))


@pytest.mark.parametrize(
    "series",
    [
        pytest.param({LATEST: "0+15x120", UP: "1x120"}, id="trains"),
        pytest.param({LATEST: "0+15x20 300x40 900+15x60", UP: "1x120"}, id="validates-for-ten-minutes"),
        pytest.param({LATEST: "0+15x20 300x20 stale", UP: "1x41 stale"}, id="has-ended"),
        pytest.param({LATEST: "0+15x20 300x100", UP: "1x20 0x100"}, id="cannot-be-scraped-and-its-series-stay"),
        pytest.param({LATEST: "-3600+15x120", UP: "1x120"}, id="trains-with-a-slow-clock"),
        pytest.param({LATEST: "3600+15x120", UP: "1x120"}, id="trains-with-a-fast-clock"),
        pytest.param(
            {LATEST: "0x120", SUM: "1200x120", COUNT: "10x120", UP: "1x120"},
            id="has-steps-of-two-minutes-and-one-of-30",
        ),
        pytest.param(
            {LATEST: "0x120", of("loopscope_last_step_timestamp_seconds", agent="second"): "0+15x120", UP: "1x120"},
            id="trains-its-second-model",
        ),
        pytest.param(
            {
                of("loopscope_last_step_timestamp_seconds", optimizer="generator"): "0x120",
                of("loopscope_last_step_timestamp_seconds", optimizer="critic"): "0+15x120",
                UP: "1x120",
            },
            id="trains-one-of-two-optimizers",
        ),
    ],
)
def test_run_that_goes_on_is_not_stalled(tmp_path, series):
    """Pauses, slow steps, wrong clocks, a second model and the end of a run are no standstill."""
    assert_cases(tmp_path, case=Case(series, {"21m": [], "29m": []}))


@pytest.mark.parametrize(
    ("series", "firing"),
    [
        pytest.param({STEPS: "0x140", UP: "1x140"}, {"29m45s": [], "30m15s": [NO_FIRST_STEP]}, id="never-steps"),
        pytest.param({STEPS: "0x80 1+1x60", UP: "1x140"}, {"34m": []}, id="steps-after-twenty-minutes"),
        pytest.param({STEPS: "0x80 stale", UP: "1x81 stale"}, {"34m": []}, id="ends-before"),
        pytest.param({STEPS: "0x140", UP: "1x20 0x140"}, {"34m": []}, id="cannot-be-scraped-and-its-series-stay"),
        pytest.param(
            {STEPS: "0x140", of("loopscope_steps_total", agent="second"): "0+1x140"}, {"34m": []}, id="idle-agent"
        ),
    ],
)
def test_first_step(tmp_path, series, firing):
    """A run that waits for half an hour before its first step is told; one that steps, or is gone, is not."""
    assert_cases(tmp_path, case=Case(series, firing))


@pytest.mark.parametrize(
    ("series", "firing"),
    [
        pytest.param(
            {UP: "1x20 0x140", INFO: "1x20 stale"},
            {"7m": [], "7m30s": [DOWN], "20m": [DOWN], "23m": []},
            id="crashes-and-is-told-for-a-while",
        ),
        pytest.param(
            {UP: "1x20 0x140", INFO: "1x20 stale", LATEST: "0+15x20 stale"},
            {"20m": [DOWN]},
            id="is-not-stalled-as-well",
        ),
        pytest.param({UP: "1x20 0 1x60", INFO: "1x20 stale 1x60"}, {"6m": [], "10m": []}, id="one-scrape-fails"),
        pytest.param({UP: "1x20 stale", INFO: "1x20 stale"}, {"10m": []}, id="ends-and-is-taken-out"),
        pytest.param({UP: "1x20 0x60"}, {"10m": []}, id="a-target-of-others"),
    ],
)
def test_target_down(tmp_path, series, firing):
    """A target that was a run and cannot be reached is told until it is forgotten; an ended run and others' are not."""
    assert_cases(tmp_path, case=Case(series, firing))


@pytest.mark.parametrize(
    ("per_scrape", "firing"),
    [
        pytest.param(10, [{"alertname": "LoopscopeDroppedReports", "severity": "warning", **AGENT}], id="a-tenth"),
        pytest.param(1, [], id="a-hundredth"),
        pytest.param(0, [], id="none"),
    ],
)
def test_dropped_reports(tmp_path, per_scrape, firing):
    """One report in ten that is dropped is told, one in a hundred is not; steps of all optimizers count together."""
    optimizers = {of("loopscope_steps_total", optimizer=name): "0+50x100" for name in ("generator", "critic")}

    assert_cases(tmp_path, case=Case({DROPPED: f"0+{per_scrape}x100", **optimizers}, {"20m": firing}))


def test_no_steps_drop_nothing(tmp_path):
    """Where no steps are taken the share of dropped reports is none, and not infinite."""
    assert_cases(tmp_path, case=Case({DROPPED: "3x100", STEPS: "7x100"}, {"20m": []}))


@pytest.mark.parametrize(
    ("parts", "firing"),
    [("0x9 1x60", [{"alertname": "LoopscopeProbeDisabled", "severity": "warning", **AGENT}]), ("0x60", [])],
)
def test_disabled_probe(tmp_path, parts, firing):
    """A part that has switched itself off is told as long as it is off; none is silent."""
    assert_cases(tmp_path, case=Case({of("loopscope_disabled_parts"): parts}, {"2m15s": [], "12m": firing}))


def test_detectors_of_others(tmp_path):
    """A kind that the catalog does not have is told by an alert that names it."""
    series = {of("loopscope_anomalies_total", kind="my_rule"): "0x9 1x60"}
    alert = {"alertname": "LoopscopeCustomAnomaly", "kind": "my_rule", "severity": "warning", **AGENT}

    assert_cases(tmp_path, case=Case(series, {"2m15s": [], "3m": [alert], "12m": []}))
