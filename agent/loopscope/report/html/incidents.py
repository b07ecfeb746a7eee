"""What happened and may need a person: incidents with their first cause and remedy, the worst first."""

from __future__ import annotations

from collections.abc import Sequence

from ..humanise import UNKNOWN, count, number, steps
from ..incidents import Incident, Incidents, happened, where
from ..log import Entry, real
from .elements import Html, details, tag
from .lines import Mark

__all__ = ["incident_list", "marks"]

MAX_SHOWN = 40
MAX_MARKS = 40
_GRAVE = ("critical", "warning")


def incident_list(incidents: Incidents) -> Html:
    """Return what is critical or a warning in full, and what is only to be known on demand."""
    grave, rest = incidents.ranked(*_GRAVE), incidents.ranked("info")
    parts = [_list(grave, "further incidents")] if grave else [tag("p", "Nothing to act on.", class_="calm")]
    if rest:
        parts.append(details(f"{count(len(rest))} to know of", _list(rest, "further ones")))
    return tag("div", *parts, class_="incidents")


def marks(incidents: Incidents, optimizer: str | None) -> list[Mark]:
    """Return the steps of the gravest incidents, of this optimizer or of none in particular."""
    wanted = [i for i in incidents.ranked(*_GRAVE) if i.head.get("optimizer") in {None, optimizer}]
    return [
        Mark(i.head["step"], i.severity, f"step {i.head['step']:,}: {_kind(i.head)}" + _at(i.head))
        for i in wanted[:MAX_MARKS]
    ]


def _list(incidents: Sequence[Incident], further: str) -> Html:
    items = [_item(incident) for incident in incidents[:MAX_SHOWN]]
    num_more = len(incidents) - len(items)
    more = [tag("li", f"{count(num_more)} {further} are in the log.", class_="muted")] if num_more else []
    return tag("ol", *items, *more, class_="incidents")


def _item(incident: Incident) -> Html:
    head = incident.head
    name = tag(
        "h4",
        tag("span", incident.severity, class_=f"badge {incident.severity}"),
        f" {_kind(head)}",
        tag("small", f" {_times(incident)}"),
    )
    parts = [name, _place(head), tag("p", str(head["message"]))]
    if head.get("remedy"):
        parts.append(tag("p", tag("strong", "Remedy. "), str(head["remedy"]), class_="remedy"))
    if facts := happened(head):
        words = "; ".join(f"{name} {value}".strip() for name, value in facts)
        parts.append(tag("p", f"In that step: {words}.", class_="muted"))
    if incident.followers:
        parts.append(_followers(incident))
    return tag("li", *parts, class_=f"incident {incident.severity}")


def _times(incident: Incident) -> str:
    head = incident.head
    if incident.followers or incident.num_events == 1:
        cause = " · first cause" if head.get("first_cause") else ""
        return f"step {head['step']:,} · epoch {head.get('epoch', UNKNOWN)}{cause}"
    return f"{count(incident.num_events)} times · {steps(head['step'], incident.last_step)}"


def _place(head: Entry) -> Html:
    facts = []
    if where(head):
        facts.append(tag("code", where(head)))
    if head.get("optimizer"):
        facts.append(tag("span", f"optimizer {head['optimizer']}"))
    if (value := real(head.get("value"))) is not None:
        facts.append(tag("span", f"value {number(value)}"))
    if (threshold := real(head.get("threshold"))) is not None:
        facts.append(tag("span", f"threshold {number(threshold)}"))
    return tag("p", *facts, class_="facts") if facts else Html("")


def _followers(incident: Incident) -> Html:
    items = [
        tag(
            "li",
            tag("span", f"{event['severity']} "),
            f"{_kind(event)} at step {event['step']:,}{_at(event)}: {event['message']}",
        )
        for event in incident.followers
    ]
    num_more = incident.num_events - 1 - len(items)
    more = [tag("li", f"{count(num_more)} more are in the log.")] if num_more else []
    return details(f"{count(incident.num_events - 1)} that followed", tag("ul", *items, *more))


def _kind(event: Entry) -> str:
    return str(event["kind"]).replace("_", " ")


def _at(event: Entry) -> str:
    return f" at {where(event)}" if where(event) else ""
