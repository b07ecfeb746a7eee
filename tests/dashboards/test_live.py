"""Every expression of every panel, asked of a real Prometheus that scrapes real runs."""

from __future__ import annotations

import itertools
import math
import subprocess
from collections.abc import Iterator

import pytest
from tests.dashboards.boards import BOARDS, Expression, data_panels, expressions, fill, filled, find
from tests.prometheus_server import PrometheusServer
from tests.python_process import ROOT, start_python
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not PrometheusServer.is_installed(), reason="prometheus is not installed (apt-get install prometheus)"
)
PROGRAMS = ROOT / "tests" / "dashboards" / "programs"
HAS_HAPPENED = (
    'increase(loopscope_anomalies_total{kind="nonfinite_loss"}[1m]) > 0 and on () changes(loopscope_epoch[1m]) >= 2',
    'count(loopscope_steps_total{rank=~".+"} > 50) == 4',
    "count(loopscope_activation_saturated_ratio) and count(loopscope_activation_dead_ratio)",
    "max(changes(loopscope_recompilations_total[1m])) >= 1",
    "count(loopscope_layer_health == 1) and count(loopscope_epoch_loss) >= 4",
    "loopscope_compile_fallbacks_total >= 1 and on () max_over_time(loopscope_incident_info[1m])",
)
NOT_IN_A_PLAIN_RUN = {
    "ranks": "the run is not distributed",
    "activations": "activations=True was not asked for",
    "Syncs a step": "nobody looks for syncs on a CPU",
    "Blocked in syncs": "likewise",
    "Syncs a step, by kind": "likewise",
    "Time blocked a step, by line": "likewise",
    "Lines that wait for the device": "likewise",
}
"""Boards and panels that are empty for a run in which nothing of the kind can be known; they say so in their text."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """A server that has scraped a run with everything, a plain one and one of two ranks, which all go on."""
    programs = {name: start_python(str(PROGRAMS / f"{name}.py")) for name in ("one_process", "plain", "two_ranks")}
    with programs["one_process"] as one, programs["plain"] as plain, programs["two_ranks"] as two:
        targets = [*addresses(one, 1), *addresses(plain, 1), *addresses(two, 2)]
        with PrometheusServer(tmp_path_factory.mktemp("prometheus"), targets, scrape_interval="1s") as server:
            for condition in HAS_HAPPENED:
                server.wait_for(condition, seconds=120)
            yield server


def addresses(process: subprocess.Popen[str], number: int) -> list[str]:
    """Return the addresses that a program prints, other lines left out."""
    assert process.stdout is not None
    lines = (line.strip() for line in process.stdout)
    return list(itertools.islice((line.removeprefix("http://") for line in lines if line.startswith("http")), number))


def of_board(name: str, *, is_plain: bool | None = None) -> list[Expression]:
    """Return the expressions of a board: all, those that a plain run fills, or the others."""
    found = [each for each in expressions() if each.board == name]
    if is_plain is None:
        return found
    return [each for each in found if is_plain == (not {each.board, each.place[:-2]} & NOT_IN_A_PLAIN_RUN.keys())]


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_has_data(prometheus, name):
    """Each query parses and returns something while everything happens; none is excepted."""
    waiting = of_board(name)

    def are_all_filled() -> bool:
        waiting[:] = [each for each in waiting if not prometheus.query(filled(each))]
        return not waiting

    assert wait_until(are_all_filled, seconds=60)


@pytest.mark.parametrize("name", [name for name in BOARDS if name not in NOT_IN_A_PLAIN_RUN])
def test_panels_of_a_healthy_run_are_not_empty(prometheus, name):
    """Without anomalies, compilations, clipping or scaling there are zeros and texts, where that much is known."""
    empty = [each for each in of_board(name, is_plain=True) if not prometheus.query(filled(each, run="plain"))]

    assert empty == []


@pytest.mark.parametrize("name", BOARDS)
def test_what_cannot_be_known_is_absent(prometheus, name):
    """Nothing is drawn as zero that nobody has looked at."""
    shown = [each for each in of_board(name, is_plain=False) if prometheus.query(filled(each, run="plain"))]

    assert shown == []


@pytest.mark.parametrize("choice", ["job", "instance", "run", "agent", "rank"])
def test_nothing_is_shown_of_what_was_not_chosen(prometheus, choice):
    """With a choice that does not exist every panel is empty: each of its parts honours each variable."""
    every = expressions(has_annotations=True)
    shown = [each for each in every if prometheus.query(filled(each, **{choice: "none"}))]

    assert shown == []


def test_run_that_is_chosen_is_the_one_shown(prometheus):
    """The run is joined in: where a panel has it as a label it is the chosen one."""
    for expression in expressions():
        runs = {dict(labels).get("run") for labels in prometheus.query(filled(expression, run="two-ranks"))}
        assert runs <= {None, "two-ranks"}, expression


@pytest.mark.parametrize("name", BOARDS)
def test_variables_have_values(prometheus, name):
    """Each list of choices has what was scraped."""
    expected = {
        "run": {"one-process", "plain", "two-ranks"},
        "agent": {"model"} if name == "activations" else {"model", "ddp", "fsdp"},  # who asked for activations
        "rank": {"0", "1"},
    }
    for variable in BOARDS[name]["templating"]["list"]:
        if variable["name"] in expected:
            selector, label = variable["definition"].removeprefix("label_values(").removesuffix(")").split(", ")
            found = {dict(labels).get(label) for labels in prometheus.query(f"group by ({label}) ({fill(selector)})")}
            assert found - {None} == expected[label]


@pytest.mark.parametrize("what", ["Epochs", "Anomalies", "Recompilations"])
def test_annotations_mark_what_happened(prometheus, what):
    """What happened in the last minute is found by what the annotation asks for, and is not there all of the time.

    Epochs of this run last for seconds: the interval is short here.
    """
    text = filled(find("overview", f"annotation {what}"), run="one-process", __interval="2s", __interval_ms="2000")
    counts = prometheus.wait_for(f"count_over_time(({text})[60s:1s])", seconds=20)

    assert counts
    assert all(count < 30 for count in counts.values())


def test_shards_are_joined_over_the_ranks(prometheus):
    """The norm of an FSDP run is the root of the sum of all squares, of the moment that Prometheus has."""
    norm = filled(find("ranks", "Norm of the whole gradient A"), agent="fsdp")
    ratio = prometheus.query(f"{norm} / on () group_left () sqrt(sum (loopscope_gradient_local_squares))")

    assert list(ratio.values()) == pytest.approx([1.0], rel=1e-12)


def test_slowest_rank_is_the_one_with_more_to_do(prometheus):
    """Rank 1 multiplies matrices that rank 0 does not, and rank 0 waits for it in backward."""
    slowest = filled(find("ranks", "Slowest rank A"), agent="ddp", __rate_interval="20s")

    assert {dict(labels)["rank"] for labels in prometheus.query(slowest)} == {"1"}


def test_parts_of_all_ranks_add_up(prometheus):
    """Of shards as of whole gradients."""
    parts = prometheus.query(f"sum by (agent) ({filled(find('ranks', 'Part of the sum of squares by rank A'))})")

    assert {dict(labels)["agent"] for labels in parts} == {"ddp", "fsdp"}
    assert list(parts.values()) == pytest.approx([1.0, 1.0])


def test_colours_of_norms_are_of_the_mapped_range(prometheus):
    """Every value that the map of norms gets has a colour; none falls beside the mappings."""
    (panel,) = (panel for panel in data_panels(BOARDS["gradients"]) if "two colours" in panel["title"])
    known = set(panel["fieldConfig"]["defaults"]["mappings"][0]["options"])
    values = prometheus.query(fill(panel["targets"][0]["expr"])).values()

    assert {f"{value:.0f}" for value in values if not math.isnan(value)} <= known
    assert all(value == int(value) for value in values if not math.isnan(value))


def test_state_of_each_layer_is_one_of_the_mapped_ones(prometheus):
    """Healthy layers are 0; the worst state of all ranks and runs is shown."""
    (panel,) = (panel for panel in data_panels(BOARDS["gradients"]) if panel["title"] == "Health of the layers")
    states = prometheus.query(fill(panel["targets"][0]["expr"], run="plain"))

    assert {dict(labels)["layer"]: value for labels, value in states.items()} == {"0": 0.0, "2": 0.0}
