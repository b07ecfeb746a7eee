"""PromQL of the panels: metrics of the catalog, held to what the dashboard's variables choose."""

from __future__ import annotations

from typing import Any

from loopscope.catalog import metric

__all__ = [
    "grouped",
    "held",
    "instant",
    "latest",
    "named",
    "of_processes",
    "of_run",
    "or_none",
    "over",
    "per_step",
    "rate",
    "ratio",
    "selected",
    "table",
    "total",
]

_CHOSEN = ('job=~"$job"', 'instance=~"$instance"', 'agent=~"$agent"', 'rank=~"$rank"')
_IDENTITY = "job, instance, agent, rank"
"""Tells the agents of all processes apart; where a process has no rank both sides of a join lack the label."""


def selected(name: str, *matchers: str, suffix: str = "") -> str:
    """Return the selector of a metric, `suffix` being `_bucket`, `_sum` or `_count` of a histogram."""
    return f"{metric(name).prometheus_name}{suffix}{{{','.join((*_CHOSEN, *matchers))}}}"


def rate(name: str, *matchers: str, suffix: str = "") -> str:
    """Return the increase a second."""
    return f"rate({selected(name, *matchers, suffix=suffix)}[$__rate_interval])"


def of_run(expression: str) -> str:
    """Return `expression` of the chosen runs, with the label `run`, which only the info metric has."""
    run = selected("loopscope.run.info", 'run=~"$run"')
    return f"{expression} * on ({_IDENTITY}) group_left (run) {run}"


def grouped(how: str, labels: str, expression: str) -> str:
    """Return `expression` of the chosen runs, brought together by labels: `how` is an aggregation such as `sum`."""
    return f"{how} by ({labels}) ({of_run(expression)})"


def total(expression: str, how: str = "sum") -> str:
    """Return one value of `expression` for all chosen runs together."""
    return f"{how} ({of_run(expression)})"


def over(how: str, expression: str, at: str = "") -> str:
    """Return what `how`, such as `max_over_time`, makes of the values over the whole time range; `at` is `@ end()`.

    A subquery, as the join with the run has to be made moment by moment: an address may have had several runs.
    """
    return f"{how}(({expression})[$__range:$__interval]{at and f' {at}'})"


def named(expression: str, label: str, value: str) -> str:
    """Return `expression` with one label set."""
    return f'label_replace({expression}, "{label}", "{value}", "", "")'


def or_none(expression: str, label: str, *, known_by: str, value: int = 0) -> str:
    """Return `expression`, or where it has nothing one series of `value` whose label says `none`.

    What is counted by open labels (lines, frames) is absent until it happens. That it did not happen is known only from
    an agent that is scraped: there `known_by` has a value.
    """
    nothing = named(f"0 * {total(selected(known_by))} + {value}", label, "none")
    return f"{expression} or on () {nothing}"


def ratio(labels: str, part: str, whole: str) -> str:
    """Return the sum of `part` by labels over the one sum of `whole`."""
    return f"{grouped('sum', labels, part)} / ignoring ({labels}) group_left () {total(whole)}"


def per_step(labels: str, part: str) -> str:
    """Return a rate by labels for each step of all chosen loops together."""
    return ratio(labels, part, rate("loopscope.steps"))


def of_processes(how: str, labels: str, expression: str) -> str:
    """Return what belongs to a process and is told by each of its agents, brought together by labels, each once."""
    processes = ", ".join(dict.fromkeys([*labels.split(", "), "job", "instance"]))
    return f"{how} by ({labels}) ({grouped('max', processes, expression)})"


def latest(expression: str) -> str:
    """Return the last values in the time range: those of a run that has ended as well."""
    return over("last_over_time", expression)


def held(expression: str, legend: str = "") -> dict[str, Any]:
    """Return a query of values over time."""
    return _query(expression, legend or "__auto", "time_series", is_instant=False)


def instant(expression: str, legend: str = "") -> dict[str, Any]:
    """Return a query of the values at the end of the time range."""
    return _query(expression, legend or "__auto", "time_series", is_instant=True)


def table(expression: str) -> dict[str, Any]:
    """Return a query for a table: one row a series, a column a label."""
    return _query(expression, "__auto", "table", is_instant=True)


def _query(expression: str, legend: str, form: str, *, is_instant: bool) -> dict[str, Any]:
    return {
        "expr": expression,
        "legendFormat": legend,
        "format": form,
        "instant": is_instant,
        "range": not is_instant,
        "exemplar": False,
    }
