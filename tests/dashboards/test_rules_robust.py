"""Alerts where series come and go: restarts, resets, failed scrapes, outages of Prometheus, ranks, missing families."""

from __future__ import annotations

from tests.promtool import Case, assert_cases, labels, needs_promtool

pytestmark = needs_promtool

AGENT = {"job": "training", "instance": "host:9464", "agent": "model"}
RECENT = "instance_agent_kind:loopscope_anomalies:recent"


def info(run: str = "a", **more: str) -> str:
    """Return the series that names the run."""
    return "loopscope_run_info" + labels(**{**AGENT, **more}, run=run)


def count(kind: str = "inplace_corruption", **more: str) -> str:
    """Return the counter of a kind."""
    return "loopscope_anomalies_total" + labels(**{**AGENT, **more}, kind=kind)


def active(kind: str = "nonfinite_gradient", **more: str) -> str:
    """Return the gauge of a kind."""
    return "loopscope_anomaly_active" + labels(**{**AGENT, **more}, kind=kind)


def alert(name: str = "LoopscopeInplaceCorruption", kind: str = "inplace_corruption", **more: str) -> dict[str, str]:
    """Return the labels of a critical alert."""
    return {"alertname": name, "kind": kind, "severity": "critical", **AGENT, **more}


def test_same_script_started_again_with_the_same_count(tmp_path):
    """A broken script that is run again on the same port counts the same again: that is news, the run is another."""
    series = {
        info("first"): "1x40 stale",
        info("second"): "_x44 1x40",
        count(): "0x8 1x31 stale _x3 1x40",
    }

    assert_cases(tmp_path, case=Case(series, {"3m": [alert()], "10m45s": [], "11m15s": [alert()], "19m": []}))


def test_run_that_dies_of_it_is_told(tmp_path):
    """A write in place often ends the process: one scrape that saw the count is enough, and it is told for a while."""
    series = {info(): "_x4 1 stale", count("inplace_conflict"): "_x4 1 stale"}
    firing = [alert("LoopscopeInplaceConflict", "inplace_conflict")]

    assert_cases(tmp_path, case=Case(series, {"45s": [], "1m": firing, "5m": firing, "9m": []}))


def test_counter_that_begins_anew(tmp_path):
    """A counter that is reset to what it was before, or below, tells what came since."""
    series = {info("only"): "1x120", count(): "0x8 3x40 1x60"}

    assert_cases(tmp_path, case=Case(series, {"11m45s": [], "12m30s": [alert()], "20m": []}))


def test_restart_without_anomalies_is_silent(tmp_path):
    """A counter that begins at 0 in a new run tells nothing, however much the run before had."""
    series = {info("first"): "1x60 stale", info("second"): "_x64 1x60", count(): "4x60 stale _x2 0x60"}

    assert_cases(tmp_path, case=Case(series, {"16m15s": [], "20m": [], "25m": []}))


def test_failed_scrape_resolves_nothing(tmp_path):
    """A scrape that fails makes all series vanish; what fired goes on firing, and not anew."""
    series = {
        info(): "1x20 stale 1x40",
        active(): "0x8 1x11 stale 1x40",
        count("nonfinite_gradient"): "0x20 stale 0x40",
    }
    firing = [alert("LoopscopeNonfiniteGradient", "nonfinite_gradient")]

    assert_cases(tmp_path, case=Case(series, {"5m": firing, "5m15s": firing, "5m30s": firing, "8m": firing}))


def test_outage_of_prometheus_brings_nothing_back(tmp_path):
    """What a run counted before an hour without scrapes is no news after it: the run is known."""
    series = {info(): "1x20 _x240 1x60", count(): "0x4 2x15 _x240 2x60"}

    assert_cases(tmp_path, case=Case(series, {"3m": [alert()], "1h5m45s": [], "1h10m": []}))


def test_ranks_and_agents_alert_by_themselves(tmp_path):
    """Each rank, and each agent of a process, is an alert of its own; the others stay silent."""
    series = {
        **{info(rank=rank): "1x60" for rank in ("0", "1", "2")},
        **{count(rank=rank): "0x60" for rank in ("0", "2")},
        count(rank="1"): "0x8 1x60",
        count(rank="0", agent="second"): "0x8 2x60",
    }

    assert_cases(tmp_path, case=Case(series, {"3m": [alert(rank="1"), alert(rank="0", agent="second")]}))


def test_second_agent_brings_nothing_back(tmp_path):
    """An agent that is attached later in the same process makes no news of what the first has counted long ago."""
    series = {
        info("first"): "1x100",
        count(): "0x4 1x95",
        info("second", agent="second"): "_x60 1x40",
        count(agent="second"): "_x60 0x40",
    }

    assert_cases(tmp_path, case=Case(series, {"3m": [alert()], "14m": [], "15m15s": [], "18m": []}))


def test_each_source_is_enough(tmp_path):
    """The gauge alone, and the counter alone, do without the rest: nothing has to be there for an alert to fire."""
    nonfinite = alert("LoopscopeNonfiniteGradient", "nonfinite_gradient")

    assert_cases(
        tmp_path,
        gauge=Case({active(): "0x8 1x60"}, {"3m": [nonfinite]}),
        counter=Case({count(): "0x8 1x60"}, {"3m": [alert()]}),
        nothing=Case({"up": "1x60"}, {"3m": []}),
    )


def test_layers_do_not_make_alerts(tmp_path):
    """An anomaly in two layers, of two optimizers, or one that moves from layer to layer, is one alert that goes on."""
    incidents = {
        "loopscope_incident_info" + labels(**AGENT, kind="nonfinite_gradient", layer=layer, optimizer=optimizer): values
        for layer, optimizer, values in (
            ("0", "generator", "_x8 1x8 stale"),
            ("1", "generator", "_x17 1x40"),
            ("0", "critic", "_x8 1x40"),
        )
    }
    firing = [alert("LoopscopeNonfiniteGradient", "nonfinite_gradient")]

    assert_cases(
        tmp_path,
        case=Case({active(): "0x7 1x60", **incidents}, {"2m": firing, "4m": firing, "4m30s": firing, "8m": firing}),
    )


def test_other_labels_of_the_target_are_kept(tmp_path):
    """Labels that relabelling adds (a pod, a cluster) are on the alert, for routing."""
    more = {"namespace": "research", "pod": "train-0"}

    assert_cases(
        tmp_path,
        case=Case({info(**more): "_x8 1x60", count(**more): "_x8 1x60"}, {"2m30s": [alert(**more)]}),
    )


def test_an_anomaly_is_one_whatever_its_count(tmp_path):
    """What is recorded is 1, whichever of the gauge and the counter tells it: nobody reads an extrapolated increase."""
    series = {count("gradient_spike"): "0x8 7x60", active("loss_spike"): "0x8 1x60"}
    recorded = {RECENT + labels(**AGENT, kind=kind): 1.0 for kind in ("gradient_spike", "loss_spike")}

    assert_cases(tmp_path, case=Case(series, values={"3m": {RECENT: recorded}}))
