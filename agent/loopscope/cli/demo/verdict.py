"""The verdict: what loopscope says of the fault that was planted, and the line as it should be."""

from __future__ import annotations

import linecache
import textwrap
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence

from ...records import Event
from .pathologies import Pathology

__all__ = ["WIDTH", "failure_text", "headline", "is_found", "verdict", "worth_telling"]

WIDTH = 100


def worth_telling(events: Iterable[Event]) -> list[Event]:
    """Return the events that a person should act on."""
    return [event for event in events if event.severity != "info"]


def is_found(pathology: Pathology, events: Iterable[Event]) -> bool:
    """Whether loopscope has reported what was planted."""
    return any(event.kind == pathology.kind for event in worth_telling(events))


def headline(event: Event) -> str:
    """Return what happened, when and where, in a line."""
    return f"{event.severity}: {event.kind} at step {event.step}" + (f" in layer {event.layer}" if event.layer else "")


def failure_text(error: BaseException) -> str:
    """Return the exception, with the notes that loopscope has added to it."""
    text = "".join(traceback.format_exception_only(error))
    return "\n".join(["Training ended with an exception:\n", *map(_indented, text.splitlines())])


def verdict(pathology: Pathology, events: Sequence[Event]) -> str:
    """Return what loopscope has said, the incident that was planted first, then the fix; or that it was not seen."""
    told = worth_telling(events)
    found = next((event for event in told if event.kind == pathology.kind), None)
    number = None if found is None else found.attributes.get("incident")
    incident = [event for event in told if number is not None and event.attributes.get("incident") == number]
    foremost = [event for event in incident if event.first_cause or event is found]
    parts = [f"What loopscope says:{'' if told else ' nothing.'}", *map(_told, foremost)]
    parts += _in_brief("In its wake:", [event for event in incident if event not in foremost])
    parts += _in_brief("Besides:", [event for event in told if event not in incident])
    if found is None:
        parts.append(f"It did not report {pathology.kind}, which was planted. More --epochs may show it.")
    else:
        planted = pathology.planted_line()
        parts.append(f"The fix:\n\n  {planted.site}\n  - {planted.text}\n  + {pathology.fix}")
    return "\n\n".join(parts)


def _told(event: Event) -> str:
    lines = [f"  {headline(event)}"]
    if event.site is not None:
        lines.append(f"    {event.site}\n    > {_source(event.site)}")
    return "\n".join([*lines, _indented(event.message, 4), _indented(f"Remedy: {event.remedy}", 4)])


def _in_brief(title: str, events: Sequence[Event]) -> list[str]:
    counts = Counter(f"{event.severity}: {event.kind}" for event in events)
    names = [name + (f" ({count} times)" if count > 1 else "") for name, count in counts.items()]
    return ["\n".join(f"  {line}" for line in (title, *(f"  {name}" for name in names)))] if names else []


def _indented(text: str, width: int = 2) -> str:
    indent = " " * width
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _source(site: str) -> str:
    path, _, line = site.rpartition(":")
    return linecache.getline(path, int(line)).strip().partition("  # ")[0] if line.isdigit() else ""
