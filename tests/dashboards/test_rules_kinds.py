"""The alert of each kind of anomaly fires on what its detector tells, in each of three ways, and on nothing else."""

from __future__ import annotations

from tests.promtool import Case, assert_cases, labels, needs_promtool

from loopscope.catalog import EVENT_KINDS

pytestmark = needs_promtool

INFO = {"compilation", "loss_plateau", "step_time_outlier"}
KINDS = {kind.name: kind.severity for kind in EVENT_KINDS if kind.name not in INFO}
FOLLOWING = sorted(set(KINDS) - {"probe_disabled"})
"""`probe_disabled` has a gauge of its own (test_rules_runs.py)."""
AGENT = {"job": "training", "instance": "host:9464", "agent": "model"}
WAITING = {"device_sync", "device_sync_storm", "recompile_storm"}
"""Their alerts name the busiest of many lines, and wait for two more scrapes to know it."""
NEVER = ("0x60", "0x60")


def run(kind: str, gauge: str, counter: str, info: str = "1x60") -> dict[str, str]:
    """Return the series of a run: every kind with 0 from the start, but for the gauge and the counter given."""
    series = {"loopscope_run_info" + labels(**AGENT, run="a"): info, 'up{job="training",instance="host:9464"}': "1x60"}
    for each in KINDS:
        values = (gauge, counter) if each == kind else NEVER
        series["loopscope_anomaly_active" + labels(**AGENT, kind=each)] = values[0]
        series["loopscope_anomalies_total" + labels(**AGENT, kind=each)] = values[1]
    return series


def alert(kind: str) -> dict[str, str]:
    """Return the labels of the alert of a kind."""
    name = "Loopscope" + kind.replace("_", " ").title().replace(" ", "")
    severity = "critical" if KINDS[kind] == "critical" else "warning"
    return {"alertname": name, "kind": kind, "severity": severity, **AGENT}


def told(kind: str, at: str, later: str) -> dict[str, list[dict[str, str]]]:
    """Return that the alert fires at a time, or half a minute later where it waits, and not before."""
    return {at: [], later: [alert(kind)]} if kind in WAITING else {at: [alert(kind)]}


def test_fires_at_the_scrape_that_sees_it_open(tmp_path):
    """A lasting anomaly is told at the next scrape, by its own alert alone; nothing fired before it."""
    assert_cases(
        tmp_path,
        **{kind: Case(run(kind, "0x4 1x50", "0x60"), {"1m": [], **told(kind, "1m15s", "1m45s")}) for kind in FOLLOWING},
    )


def test_fires_for_what_no_scrape_saw_open(tmp_path):
    """An anomaly of a moment, or one that was over before the next scrape, is told by its counter."""
    assert_cases(
        tmp_path,
        **{kind: Case(run(kind, "0x60", "0x4 1x50"), {"1m": [], **told(kind, "1m15s", "1m45s")}) for kind in FOLLOWING},
    )


def test_fires_for_what_was_over_before_the_first_scrape(tmp_path):
    """A run that comes with a count has it from its first steps: `increase` of a counter born at 1 is 0."""
    first = {kind: run(kind, "_x4 0x50", "_x4 1x50", info="_x4 1x50") for kind in FOLLOWING}

    assert_cases(
        tmp_path,
        **{kind: Case(series, {"45s": [], **told(kind, "1m", "1m30s")}) for kind, series in first.items()},
    )


def test_ends(tmp_path):
    """It fires while it is open, and seven minutes more: five that it was recent, two that an alert is held."""
    assert_cases(
        tmp_path,
        **{
            kind: Case(run(kind, "0x4 1x8 0x40", "0x4 1x50"), {"7m30s": [alert(kind)], "8m45s": []})
            for kind in FOLLOWING
        },
    )


def test_silent_long_after_it(tmp_path):
    """What a run counted long ago is no news, however often it is scraped."""
    assert_cases(tmp_path, **{kind: Case(run(kind, "0x60", "0x4 1x50"), {"12m": []}) for kind in FOLLOWING})


def test_all_kinds_are_here():
    """Info is what the counter never counts; every other kind of the catalog has an alert."""
    assert {kind.name for kind in EVENT_KINDS if kind.severity == "info"} >= INFO
    assert len(FOLLOWING) == len(EVENT_KINDS) - len(INFO) - 1
