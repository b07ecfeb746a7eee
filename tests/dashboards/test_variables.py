"""Variables, annotations and links: the same on all boards, and what is chosen is what is shown."""

from __future__ import annotations

import re

import pytest
from tests.dashboards.boards import BOARDS, data_panels, expressions, fill
from tests.python_process import ROOT

from loopscope.catalog import EVENT_KINDS
from loopscope_dashboards.alerts import alert_name
from loopscope_dashboards.settings import RuleSettings

CHOICES = ("job", "instance", "run", "agent", "rank")
LAYER_BOARDS = {"gradients", "activations"}


def variables(name):
    """Return the variables of a board by their names."""
    return {each["name"]: each for each in BOARDS[name]["templating"]["list"]}


@pytest.mark.parametrize("name", BOARDS)
def test_data_source_is_a_variable(name):
    """As the dashboard linter wants it: named `datasource`, labelled, and used by every panel, query and annotation."""
    source = variables(name)["datasource"]
    used = [panel["datasource"] for panel in data_panels(BOARDS[name])]
    used += [target["datasource"] for panel in data_panels(BOARDS[name]) for target in panel["targets"]]
    used += [each["datasource"] for each in BOARDS[name]["annotations"]["list"] if "expr" in each]
    used += [variables(name)[choice]["datasource"] for choice in CHOICES]

    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")
    assert {(each["type"], each["uid"]) for each in used} == {("prometheus", "${datasource}")}


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("choice", ["job", "instance", "run"])
def test_several_can_be_chosen_and_all(name, choice):
    """All is a pattern of its own, not a list of every value, which grows beyond what a URL holds."""
    variable = variables(name)[choice]

    assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_layers_are_of_one_agent(name):
    """Where layers are shown one agent is chosen: two agents may have layers of the same name."""
    variable = variables(name)["agent"]

    assert (variable["multi"], variable["includeAll"]) == ((False, False) if name in LAYER_BOARDS else (True, True))


@pytest.mark.parametrize("name", BOARDS)
def test_runs_without_ranks_are_found(name):
    """A process that is not distributed has no label `rank`: `.+` would not match it. The board of ranks wants one."""
    pattern = variables(name)["rank"]["allValue"]

    assert pattern == (".+" if name == "ranks" else ".*")
    assert bool(re.fullmatch(pattern, "")) == (name != "ranks")


@pytest.mark.parametrize("name", BOARDS)
def test_what_can_be_chosen_follows_what_was_chosen_before(name):
    """Each list asks the info metric for what the choices before it leave, and again when the time range changes.

    Activations are for agents that asked for them: only these are listed, whose metric does not have the run.
    """
    for choice in CHOICES:
        variable = variables(name)[choice]
        of = "activation_root_mean_square" if (name, choice) == ("activations", "agent") else "run_info"
        assert variable["query"]["query"].startswith(f"label_values(loopscope_{of}{{")
        assert variable["query"]["query"].endswith(f"}}, {choice})")
        assert variable["refresh"] == 2
    assert 'job=~"$job"' in variables(name)["instance"]["query"]["query"]
    wanted = "instance" if name == "activations" else "run"
    assert f'{wanted}=~"${wanted}"' in variables(name)["agent"]["query"]["query"]


@pytest.mark.parametrize("name", BOARDS)
def test_the_latest_run_is_listed_first(name):
    """Names of runs begin with the time: natural order, descending."""
    assert variables(name)["run"]["sort"] == 8


def test_every_selector_honours_every_choice():
    """No series is shown that was not chosen; the run is joined in, as only the info metric has it."""
    for expression in expressions(has_annotations=True):
        selectors = re.findall(r"(loopscope_\w+)\{([^}]*)\}", expression.text)
        assert len(selectors) == len(re.findall(r"loopscope_\w+", expression.text)), expression
        for metric, matchers in selectors:
            for choice in ("job", "instance", "agent", "rank"):
                assert f'{choice}=~"${choice}"' in matchers, (expression, metric)
        num_runs = expression.text.count('run=~"$run"')
        assert num_runs == expression.text.count("group_left (run) loopscope_run_info{") >= 1, expression


def test_no_other_variable_is_used():
    """`fill` knows the choices and Grafana's own intervals only; what is left are groups of patterns."""
    for expression in expressions(has_annotations=True):
        assert re.findall(r"\$[^1-3]", fill(expression.text)) == [], expression


def test_rates_have_a_window_that_holds_two_scrapes():
    """`$__interval` may be a single scrape, of which there is no rate: windows of rates are `$__rate_interval`."""
    for expression in expressions(has_annotations=True):
        for function, window in re.findall(
            r"(rate|increase|irate|delta)\(loopscope_\w+\{[^}]*\}\[([^\]]*)\]", expression.text
        ):
            assert (function, window) == ("rate", "$__rate_interval"), expression


@pytest.mark.parametrize("name", BOARDS)
def test_annotations_are_epochs_anomalies_and_recompilations(name):
    """They can be switched off at the top of the page, and say what they are."""
    own = [each for each in BOARDS[name]["annotations"]["list"] if "expr" in each]

    assert [each["name"] for each in own] == ["Epochs", "Anomalies", "Recompilations"]
    assert len({each["iconColor"] for each in own}) == 3
    assert all(each["enable"] and not each["hide"] and each["titleFormat"] for each in own)


@pytest.mark.parametrize("name", BOARDS)
def test_boards_link_to_each_other(name):
    """By their tag, with the choices and the time range."""
    (link,) = BOARDS[name]["links"]

    assert link["tags"] == BOARDS[name]["tags"] == ["loopscope"]
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)


def test_links_lead_to_runbooks_that_exist():
    """Every link of a panel is a page of docs/runbooks, opened beside the dashboard."""
    base = RuleSettings().runbook_base_url
    links = [link for board in BOARDS.values() for panel in data_panels(board) for link in panel["links"]]

    assert len(links) > 20
    for link in links:
        assert link["url"].startswith(base)
        assert link["targetBlank"]
        assert (ROOT / "docs" / "runbooks" / link["url"].removeprefix(base)).is_file(), link


@pytest.mark.parametrize("kind", [kind.name for kind in EVENT_KINDS])
def test_table_of_anomalies_finds_the_page_of_each_kind(kind):
    """The label that the table's link is made of is the name of the kind's alert in lower case."""
    (text,) = {each.text for each in expressions() if each.board == "overview" and each.place.endswith("first C")}
    found = re.search(r'"runbook", "([^"]+)", "kind", "([^"]+)"', text)
    assert found is not None
    template, pattern = found.groups()
    match = re.fullmatch(pattern, kind)

    assert match is not None
    assert match.expand(template.replace("$", "\\")) == alert_name(kind).lower()
