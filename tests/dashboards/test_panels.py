"""Every panel says what it shows, in which unit, and what it means when it is empty; colours never stand alone."""

from __future__ import annotations

import re

import pytest
from tests.dashboards.boards import BOARDS, data_panels, expressions

from loopscope.catalog import EPOCH_STATISTICS, HEALTH_STATES, METRICS, PHASES, metric

ALL = [(name, panel) for name, board in BOARDS.items() for panel in data_panels(board)]
IDS = [f"{name}: {panel['title']}" for name, panel in ALL]
BESIDE = {"job", "instance", "run", "agent", "rank", "optimizer", "le"}
"""Labels that a scrape adds, and the constant ones."""


def labels_of(name):
    """Return the labels of a metric by its Prometheus name, and the metric."""
    base = re.sub(r"_(bucket|count|sum)$", "", name)
    found = [each for each in METRICS if each.prometheus_name in {name, base}]
    assert found, f"{name} is not in the catalog"
    assert found[0].prometheus_name == name or found[0].kind == "histogram", name
    return found[0]


@pytest.mark.parametrize(("name", "panel"), ALL, ids=IDS)
def test_panel_is_described(name, panel):
    """A title, and a sentence more than it says; a text for when there is nothing."""
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["noValue"]


@pytest.mark.parametrize(("name", "panel"), ALL, ids=IDS)
def test_panel_has_a_unit(name, panel):
    """Of all values, or of each value column of a table; raw seconds and bytes are nowhere."""
    unit = panel["options"].get("yAxis", {}).get("unit") or panel["fieldConfig"]["defaults"].get("unit")
    named = {
        override["matcher"]["options"]: {each["id"] for each in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"].startswith("Value")
    }

    assert unit
    assert all(ids & {"unit", "mappings"} for ids in named.values())
    text = " ".join(target["expr"] for target in panel["targets"])
    if panel["type"] != "table" and re.search(r"^(?!.*/).*_bytes\{", text):
        assert unit == "bytes"


@pytest.mark.parametrize(("name", "panel"), [each for each in ALL if each[1]["type"] == "stat"])
def test_numbers_say_in_text_what_colours_say(name, panel):
    """Where a number turns orange or red it is still a number with its unit, or a word; never a colour alone."""
    assert panel["options"]["colorMode"] == "value"
    assert panel["options"]["textMode"] in {"auto", "name", "value"}
    for mapping in panel["fieldConfig"]["defaults"]["mappings"]:
        results = mapping["options"].values() if mapping["type"] == "value" else [mapping["options"]["result"]]
        assert all(result["text"] for result in results)


def test_units_are_those_of_the_catalog():
    """Where a panel shows one metric as it is, ratios are in per cent and memory in bytes, and nothing else is."""
    units = {"1": "percentunit", "By": "bytes"}
    num_seen = 0
    for name, panel in ALL:
        for target in panel["targets"] if panel["type"] == "timeseries" else ():
            plain = re.fullmatch(r"(?:max|avg|sum) by \([^)]*\) \((loopscope_\w+)\{[^}]*\} \* on [^/]*", target["expr"])
            if plain:
                num_seen += 1
                shown, told = panel["fieldConfig"]["defaults"]["unit"], labels_of(plain[1]).unit
                assert units.get(told) == (shown if shown in units.values() else None), (name, panel["title"])
    assert num_seen >= 10


def test_metrics_and_labels_are_in_the_catalog():
    """Every name, every label that is matched, grouped or joined by, and every value that is asked for, exists."""
    for expression in expressions(has_annotations=True):
        known = BESIDE | set(re.findall(r', "(\w+)", "[^"]*", "', expression.text))
        for name, matchers in re.findall(r"(loopscope_\w+)\{([^}]*)\}", expression.text):
            entry = labels_of(name)
            known |= set(entry.labels)
            for label, operator, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', matchers):
                assert label in {*entry.labels, *BESIDE}, (expression, label)
                is_closed = bool(entry.values) and label == entry.labels[-1]
                if is_closed and "$" not in value:
                    assert operator != "=" or value in entry.values, (expression, value)
                    assert set(value.split("|")) <= set(entry.values), (expression, value)
        for clause in re.findall(r"(?:by|on|ignoring|group_left) \(([^)]*)\)", expression.text):
            assert {label.strip() for label in clause.split(",") if label.strip()} <= known, (expression, clause)


def test_legends_name_labels_that_the_query_keeps():
    """A name in braces that no series has would be blank on every line."""
    for name, panel in ALL:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
                made = set(re.findall(r', "(\w+)", "[^"]*", "', target["expr"]))
                assert label in grouped | made, (name, panel["title"], label)


def test_every_phase_has_its_own_colour():
    """The same one on every panel; a phase added to the catalog needs one."""
    stacked = [panel for name, panel in ALL if name == "performance" and "phase" in panel["title"].lower()]

    assert len(stacked) == 2
    for panel in stacked:
        painted = {
            each["matcher"]["options"]: each["properties"][0]["value"] for each in panel["fieldConfig"]["overrides"]
        }
        assert set(painted) == set(PHASES)
        assert len({each["fixedColor"] for each in painted.values()}) == len(PHASES)


def test_every_state_of_a_layer_has_a_text_and_a_colour():
    """In the catalog's order, each worse than the ones before, and each of a colour of its own."""
    (panel,) = (panel for _, panel in ALL if panel["title"] == "Health of the layers")
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]

    assert [mapping["options"][str(index)]["text"] for index in range(len(HEALTH_STATES))] == list(HEALTH_STATES)
    assert len({each["color"] for each in mapping["options"].values()}) == len(HEALTH_STATES)


def test_norms_have_logarithmic_axes():
    """Norms of layers span decades; so do updates and step times."""
    wanted = {
        "Gradient norm",
        "Norm before and after clipping",
        "Update over weights",
        "Step time",
        "Norm of the whole gradient",
    }
    scales = {
        panel["title"]: panel["fieldConfig"]["defaults"]["custom"]["scaleDistribution"]
        for _, panel in ALL
        if panel["title"] in wanted and panel["type"] == "timeseries"
    }

    assert set(scales) == wanted
    assert all(scale == {"type": "log", "log": 10} for scale in scales.values())


def test_colours_of_norms_are_two_a_decade():
    """From nothing up to 1e5 each half decade has a text and a colour of its own, and NaN is told."""
    (panel,) = (panel for _, panel in ALL if "two colours a decade" in panel["title"])
    values, special = panel["fieldConfig"]["defaults"]["mappings"]
    texts = {int(key): each["text"] for key, each in values["options"].items()}

    assert sorted(texts) == list(range(-20, 11))
    assert (texts[-20], texts[-7], texts[0], texts[1], texts[10]) == (
        "0 to 3e-10",
        "3e-4 to 1e-3",
        "1 to 3",
        "3 to 10",
        "1e5 and more",
    )
    assert len({each["color"] for each in values["options"].values()}) == 31
    assert special["options"]["result"]["text"] == "not finite"


def test_bucket_of_float16_is_a_bucket():
    """The share of what float16 cannot hold asks for a bound that the histogram has, as Prometheus writes it."""
    (text,) = {each.text for each in expressions() if each.place.startswith("Too small for float16")}
    (bound,) = re.findall(r'le="([^"]+)"', text)

    assert float(bound) == 2.0**-24
    assert bound in {repr(each) for each in metric("loopscope.gradient.magnitude").buckets}


def test_epoch_columns_are_statistics_of_the_catalog():
    """Mean, p95 and maximum are exported by these names."""
    stats = {value for each in expressions() for value in re.findall(r'stat="(\w+)"', each.text)}

    assert stats == {"mean", "p95", "max"}
    assert stats <= set(EPOCH_STATISTICS)
