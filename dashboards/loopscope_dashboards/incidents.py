"""What went wrong and in which order: panels that several dashboards show."""

from __future__ import annotations

from .boards import Links
from .colors import GOOD, SERIOUS, UNKNOWN, texts
from .native import Json
from .panels import column, grid, states
from .queries import grouped, held, named, or_none, over, selected, table, total

__all__ = ["anomaly_timeline", "incident_table", "with_runbook"]

_LABELS = "kind, layer, run, agent, rank, optimizer"


def anomaly_timeline() -> Json:
    """Return a row for each kind of anomaly that was open in the time range, under one for all of them."""
    active = grouped("max", "kind", selected("loopscope.anomaly.active"))
    any_kind = named(total(selected("loopscope.anomaly.active"), "max"), "kind", "any kind")
    was_open = over("max_over_time", active, "@ end()")
    return states(
        "Anomalies over time",
        "When an anomaly of each kind was open. The first row is for all kinds together; a kind without a row was "
        "never open in this time range. Events of a moment (a recompilation, an in-place conflict) are never open: "
        "see the counts.",
        held(f"{any_kind} or ({active} and on (kind) ({was_open} > 0))", "{{kind}}"),
        mappings=texts({0: ("none open", GOOD), 1: ("open", SERIOUS)}),
        empty="No agent was scraped in this time range.",
    )


def incident_table(links: Links) -> Json:
    """Return the anomalies of the time range, the first one, which is likely the cause, on top."""
    seen = f"timestamp({selected('loopscope.incident.info')})"
    first = f"time() - {over('min_over_time', grouped('min', _LABELS, seen))}"
    last = f"time() - {over('max_over_time', grouped('max', _LABELS, seen))}"
    is_open = grouped("max", _LABELS, selected("loopscope.incident.info"))
    closed = f"0 * {over('max_over_time', is_open)}"
    first, last, state = (
        with_runbook(or_none(each, "kind", known_by="loopscope.anomaly.active", value=-1))
        for each in (first, last, f"({is_open} or {closed})")
    )
    never = texts({-1: ("-", UNKNOWN)})
    return grid(
        "Anomalies of this time range, the first one first",
        "What was open and in which layer (the foremost one that shows it). What was seen first is likely the cause, "
        "what follows likely its consequence. Times are those of scrapes, before the end of the time range. Click a "
        "kind for what to do.",
        table(first),
        table(last),
        table(state),
        columns=(
            column("kind", "Anomaly", links=links.of_field, width=170),
            column("layer", "Layer"),
            column("Value #A", "First seen, ago", unit="s", width=140, decimals=0, mappings=never, is_colored=False),
            column("Value #B", "Last seen, ago", unit="s", width=140, decimals=0, mappings=never, is_colored=False),
            column(
                "Value #C",
                "State",
                mappings=texts({-1: ("none", GOOD), 0: ("closed", UNKNOWN), 1: ("open", SERIOUS)}),
                width=75,
            ),
            column("run", "Run"),
            column("agent", "Agent", width=90),
            column("rank", "Rank", width=60),
            column("runbook", "Page", is_hidden=True),
        ),
        order=("kind", "layer", "Value #C", "Value #A", "Value #B", "run", "agent", "rank", "optimizer", "runbook"),
        sort=("First seen, ago", True),
        empty="No agent is scraped at the end of this time range, and no anomaly was open in it.",
    )


def with_runbook(expression: str) -> str:
    """Return `expression` with a label that names the page of each kind.

    That is its alert in lower case: LoopscopeNonfiniteGradient of nonfinite_gradient. Kinds have up to three words.
    """
    words = "([a-z0-9]+)_?([a-z0-9]*)_?([a-z0-9]*)"
    return f'label_replace({expression}, "runbook", "loopscope$1$2$3", "kind", "{words}")'
