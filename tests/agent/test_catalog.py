"""Laws of the catalog: names are valid and unique, every label is bounded, and docs/metrics.md tells of all."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loopscope import catalog
from loopscope.catalog import (
    CONSTANT_LABELS,
    EVENT_KINDS,
    MAX_FRAMES,
    MAX_INCIDENTS,
    MAX_LAYERS,
    MAX_OPTIMIZERS,
    MAX_SERIES,
    MAX_SITES,
    METRICS,
    EventKind,
    Metric,
    metric,
)

DOCS = Path(__file__).parents[2] / "docs"
UNITS = {"", "1", "s", "By"}
"""UCUM units in use, beside annotations such as {step}: https://opentelemetry.io/docs/specs/semconv/general/metrics/"""

OPEN = {"site", "frame"}
"""Labels whose values are lines and frames of the user's."""

every_metric = pytest.mark.parametrize("family", METRICS, ids=lambda family: family.name)
every_kind = pytest.mark.parametrize("kind", EVENT_KINDS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The script docs/generate.py."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _metric(**changes: Any) -> Metric:
    return Metric(**{"name": "loopscope.thing", "kind": "gauge", "unit": "", "help": "A thing."} | changes)


def test_names_are_unique() -> None:
    """No two families share a name, in OpenTelemetry or in Prometheus."""
    assert len({family.name for family in METRICS}) == len(METRICS)
    assert len({family.prometheus_name for family in METRICS}) == len(METRICS)


def test_series_names_are_unique() -> None:
    """A histogram's `_bucket`, `_sum` and `_count` are no other family's name."""
    histograms = [family.prometheus_name for family in METRICS if family.kind == "histogram"]
    series = {name + suffix for name in histograms for suffix in ("_bucket", "_sum", "_count")}

    assert not series & {family.prometheus_name for family in METRICS}


@every_metric
def test_names_are_valid(family: Metric) -> None:
    """Names are those that OpenTelemetry and Prometheus allow, in snake case, under our own prefix."""
    assert re.fullmatch(r"loopscope(\.[a-z][a-z0-9_]*)+", family.name)
    assert re.fullmatch(r"loopscope(_[a-z0-9]+)+", family.prometheus_name)


@every_metric
def test_labels_are_valid(family: Metric) -> None:
    """Labels are unique, valid, none of Prometheus' own, and none that each series has anyway."""
    assert len(set(family.labels)) == len(family.labels)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in family.labels)
    assert not {"le", "quantile", "job", "instance", *CONSTANT_LABELS} & set(family.labels)


@every_metric
def test_no_label_counts_up(family: Metric) -> None:
    """Step, epoch, loss and time are values, never labels."""
    assert not {"step", "epoch", "loss", "time", "timestamp"} & set(family.labels)


@every_metric
def test_suffixes_tell_the_kind(family: Metric) -> None:
    """As promtool has it: `_total` on counters only, histogram suffixes on no family, no kind in the name."""
    name = family.prometheus_name

    assert name.endswith("_total") == (family.kind == "counter")
    assert not name.endswith(("_count", "_sum", "_bucket"))
    assert not set(name.split("_")) & {"gauge", "counter", "histogram", "summary"}


@every_metric
def test_units_are_base_units_and_in_the_name(family: Metric) -> None:
    """A unit is a base unit, which the Prometheus name ends in, or an annotation, which it leaves out."""
    suffix = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}.get(family.unit, "")

    assert family.unit in UNITS or re.fullmatch(r"\{[a-z_]+\}", family.unit)
    assert family.prometheus_name.removesuffix("_total").endswith(suffix)
    assert not set(family.prometheus_name.split("_")) & {"milliseconds", "minutes", "kilobytes", "percent", "ms", "mb"}


@every_metric
def test_unit_suffix_has_a_unit(family: Metric) -> None:
    """A name that ends like a unit has that unit."""
    unit = {"seconds": "s", "bytes": "By", "ratio": "1"}.get(
        family.prometheus_name.removesuffix("_total").split("_")[-1]
    )

    assert unit in {None, family.unit}


@every_metric
def test_counters_and_histograms_are_no_ratios(family: Metric) -> None:
    """A ratio goes up and down: it is a gauge."""
    assert family.kind == "gauge" or family.unit != "1"


@every_metric
def test_help_is_a_sentence(family: Metric) -> None:
    """Help begins with a capital, ends with a full stop and fits into one line and one cell of a table."""
    assert re.fullmatch(r"[A-Z][^\n|]+\.", family.help)


@every_metric
def test_only_histograms_have_buckets(family: Metric) -> None:
    """Buckets are strictly ascending, and there where the family is a histogram."""
    assert bool(family.buckets) == (family.kind == "histogram")
    assert list(family.buckets) == sorted(set(family.buckets))


@every_metric
def test_closed_values_belong_to_a_label(family: Metric) -> None:
    """A closed list of values is without repetition, and there is a label that it is of."""
    assert len(set(family.values)) == len(family.values)
    assert family.labels or not family.values


@every_metric
def test_bound_covers_the_closed_values(family: Metric) -> None:
    """Children of a closed list exist from the start: the bound is a multiple of their number."""
    assert family.bound >= 1
    assert OPEN & set(family.labels) or family.bound % max(1, len(family.values)) == 0


@every_metric
def test_bound_of_lines_and_frames_is_theirs_and_other(family: Metric) -> None:
    """A family by line or frame has so many series of their own, and one under `other` for each closed value."""
    assert OPEN & set(family.labels) <= set(family.labels[:1])
    num_own = family.bound - max(1, len(family.values))
    assert not OPEN & set(family.labels) or num_own in {MAX_SITES, MAX_FRAMES}


@every_metric
def test_bound_covers_every_layer(family: Metric) -> None:
    """A family by layer has room for all of them, with each closed value; open anomalies have a bound of their own."""
    if family.name == "loopscope.incident.info":
        assert family.bound == MAX_INCIDENTS
    else:
        assert "layer" not in family.labels or family.bound >= MAX_LAYERS * max(1, len(family.values))


@every_metric
def test_bound_of_a_histogram_covers_its_series(family: Metric) -> None:
    """A histogram is its buckets, the one to infinity, sum and count, for each optimizer and for `other`."""
    assert family.kind != "histogram" or family.bound == (len(family.buckets) + 3) * (MAX_OPTIMIZERS + 1)


def test_bounds_add_up_to_less_than_the_limit() -> None:
    """No agent has more than MAX_SERIES series: of families that stand in for each other it has one."""
    expected = sum(family.bound for family in METRICS if not family.instead_of and not family.is_opt_in)

    assert catalog.series_bound() == expected <= MAX_SERIES


@every_metric
def test_a_family_stands_in_for_one_that_is_no_smaller(family: Metric) -> None:
    """What is counted instead of it has to exist, with the same labels, and to have as many series at the least."""
    if family.instead_of:
        assert metric(family.instead_of).bound >= family.bound
        assert metric(family.instead_of).labels == family.labels
        assert not metric(family.instead_of).instead_of


def test_anomalies_have_room_for_every_kind() -> None:
    """The counter of anomalies, and whether one is open, have a child for each kind of event."""
    assert metric("loopscope.anomalies").bound >= len(EVENT_KINDS)
    assert metric("loopscope.anomaly.active").bound >= len(EVENT_KINDS)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        (_metric(), "loopscope_thing"),
        (_metric(unit="s"), "loopscope_thing_seconds"),
        (_metric(unit="By"), "loopscope_thing_bytes"),
        (_metric(unit="1"), "loopscope_thing_ratio"),
        (_metric(unit="1", name="loopscope.thing.ratio"), "loopscope_thing_ratio"),
        (_metric(unit="{step}"), "loopscope_thing"),
        (_metric(unit="{step}", kind="counter"), "loopscope_thing_total"),
        (_metric(unit="s", kind="counter"), "loopscope_thing_seconds_total"),
        (_metric(unit="1", kind="counter"), "loopscope_thing_total"),
        (_metric(unit="s", kind="histogram"), "loopscope_thing_seconds"),
    ],
)
def test_prometheus_name_is_the_standard_translation(family: Metric, name: str) -> None:
    """Dots become underscores, then the unit, then `_total`."""
    assert family.prometheus_name == name


@every_metric
def test_metric_is_found_by_its_name(family: Metric) -> None:
    """`metric` returns the family of that name."""
    assert metric(family.name) is family


def test_unknown_metric_is_an_error() -> None:
    """A name that is not in the catalog is a KeyError which says what is."""
    with pytest.raises(KeyError, match=r"loopscope\.nothing.*loopscope\.steps"):
        metric("loopscope.nothing")


@pytest.mark.parametrize("name", catalog.__all__)
def test_exports_exist(name: str) -> None:
    """What `__all__` names is there."""
    assert hasattr(catalog, name)


def test_event_kinds_are_unique() -> None:
    """No two kinds share a name."""
    assert len({kind.name for kind in EVENT_KINDS}) == len(EVENT_KINDS)


@every_kind
def test_event_kinds_are_described(kind: EventKind) -> None:
    """A kind has a name in snake case, one of three severities and a sentence."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.name)
    assert kind.severity in {"info", "warning", "critical"}
    assert re.fullmatch(r"[A-Z][^\n|]+\.", kind.help)


def test_documentation_is_up_to_date(generate: ModuleType) -> None:
    """docs/metrics.md is what docs/generate.py writes; `make docs` mends it."""
    assert (DOCS / "metrics.md").read_text(encoding="utf-8") == generate.render()


@every_metric
def test_documentation_tells_of_every_metric(generate: ModuleType, family: Metric) -> None:
    """Each family has its row, with both names, bound, closed values and help."""
    (row,) = [line for line in generate.render().splitlines() if line.startswith(f"| `{family.prometheus_name}` ")]

    assert f"`{family.name}`" in row
    assert f"| {family.bound:,} |" in row
    assert all(f"`{value}`" in row for value in (*family.labels, *family.values))
    assert family.help in row


@every_kind
def test_documentation_tells_of_every_event(generate: ModuleType, kind: EventKind) -> None:
    """Each kind of event has its row."""
    assert f"| `{kind.name}` | {kind.severity} | {kind.help} |" in generate.render()


def test_documentation_states_the_sum_of_the_bounds(generate: ModuleType) -> None:
    """The sum and the limit are there to compare, and what the sum leaves out is marked."""
    text = generate.render()

    assert f"{catalog.series_bound():,} series; the limit is {MAX_SERIES:,}" in text
    assert text.count("| In place of") + text.count(". In place of") == sum(bool(each.instead_of) for each in METRICS)
    assert text.count("Only where a setting asks for it.") == sum(each.is_opt_in for each in METRICS)


@pytest.mark.parametrize(("text", "code"), [(None, 1), ("stale", 1), ("current", 0)])
def test_check_fails_where_the_file_is_stale(generate: ModuleType, tmp_path: Path, text: str | None, code: int) -> None:
    """--check writes nothing and returns 1 for a missing or outdated file."""
    path = tmp_path / "metrics.md"
    if text is not None:
        path.write_text(generate.render() if text == "current" else text, encoding="utf-8")
    before = path.read_bytes() if path.exists() else None

    assert generate.main(["--check"], path) == code
    assert (path.read_bytes() if path.exists() else None) == before


def test_generate_writes_the_file(generate: ModuleType, tmp_path: Path) -> None:
    """Without arguments the file is written, and a check passes."""
    path = tmp_path / "metrics.md"

    assert generate.main([], path) == 0
    assert generate.main(["--check"], path) == 0
