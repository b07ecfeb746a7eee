"""What the demo prints: addresses, a line an epoch, and at the end tables, or the verdict on what was planted."""

from __future__ import annotations

import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ...records import EpochReport
from ..tables import epoch_table, layer_table, sync_table
from .pathologies import Pathology
from .verdict import WIDTH, headline, verdict, worth_telling

if TYPE_CHECKING:
    from ...agent import Agent
    from ...null import NullAgent

    AnyAgent: TypeAlias = Agent | NullAgent

__all__ = ["conclude", "introduce", "say_progress", "stay"]

_PAGES = (("page", "/"), ("metrics", "/metrics"), ("health", "/healthz"), ("state", "/api/state"))


def introduce(agent: AnyAgent, data: str, pathology: Pathology | None) -> None:
    """Say what was planted, what is trained on, and where to look."""
    if pathology is not None:
        _say(f"Pathology {pathology.name}: {pathology.plants}")
    _say(f"Digits of scikit-learn, {data}. Attached by loopscope.attach(model, optimizer, ...):")
    if not agent.is_attached:
        _say("LOOPSCOPE_DISABLED is set: nothing is watched.")
    if agent.url is not None:
        for what, where in _PAGES:
            _say(f"  {what:<8} {agent.url}{where}")
    _say()


def say_progress(agent: AnyAgent, epoch: str, accuracy: float, pathology: Pathology | None) -> None:
    """Say how an epoch went, and with a pathology which events came of it."""
    parts = [epoch, f"validation accuracy {accuracy:6.2%}"]
    reports = _epochs(agent)
    if reports:
        report = reports[-1]
        parts.insert(1, f"loss {_number(report.loss)}")
        if report.num_samples is not None and report.duration_seconds:
            parts.append(f"{report.num_samples / report.duration_seconds:5,.0f} samples/s")
        parts.append(f"gradient norm {_number(report.global_norm.get('mean'))}")
    _say("   ".join(parts))
    if pathology is not None and reports:
        for event in worth_telling(agent.events):
            if event.epoch == reports[-1].epoch and event.first_cause:
                _say(f"  {headline(event)}")


def conclude(agent: AnyAgent, path: Path, message: str, pathology: Pathology | None) -> None:
    """Show what was seen, and where the log is."""
    _say(f"\n{message}")
    if pathology is not None:
        _say(f"\n{verdict(pathology, agent.events)}")
    else:
        _show_tables(agent)
    if agent.is_attached:
        _say(f"\nEvery step, with every parameter, is in {path}:")
        _say(f"  python3 -m json.tool --json-lines {path} | less")


def stay(agent: AnyAgent) -> None:
    """Go on serving until Ctrl-C."""
    _say(f"\nServing {agent.url}/metrics until Ctrl-C.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        _say()


def _show_tables(agent: AnyAgent) -> None:
    reports = _epochs(agent)
    if reports:
        _say("\nGradient norm of each layer, mean over the epoch's steps, after clipping:\n")
        _say(epoch_table(reports))
        _say("\nEach layer over the whole run:\n")
        _say(layer_table(reports))
    if agent.activity is not None and agent.activity.counters.get("loopscope.device.syncs"):
        _say("\nLines at which this loop would wait for the device, were it on CUDA:\n")
        _say(sync_table(agent.activity))
    for event in agent.events:
        _say(f"\n{event.severity}: {event.kind} at step {event.step}")
        _say(textwrap.fill(f"{event.message} {event.remedy}", WIDTH, initial_indent="  ", subsequent_indent="  "))


def _epochs(agent: AnyAgent) -> list[EpochReport]:
    return [report for report in agent.epochs if report.kind == "epoch"]


def _number(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.4f}"


def _say(line: str = "") -> None:
    print(line, flush=True)  # a line at a time also where the output is a pipe
