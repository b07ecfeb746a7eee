"""What is known of a run, made up for tests, by way of a real answer of a real server."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console
from tests.builders import (
    activity_report,
    anomaly,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    health_report,
    run_info,
    self_report,
    step_report,
)
from tests.top.serving import serving
from tests.web import request

from loopscope.records import Record
from loopscope.top.glyphs import ASCII, UNICODE
from loopscope.top.health import Link
from loopscope.top.room import Scroll
from loopscope.top.screen import Frame, draw
from loopscope.top.state import State, merge
from loopscope.top.tables import Sheet

__all__ = ["answer", "picture", "sick_run", "state"]


def answer(*records: Record) -> dict[str, Any]:
    """What a server says of these records."""
    with serving(*records) as (url, _):
        found = json.loads(request(f"{url}/api/live").body)
    assert isinstance(found, dict)
    return found


def state(*records: Record) -> State:
    """What is known after that; records without a run have one."""
    found = merge(None, answer(*(records or (run_info(),))))
    assert found is not None
    return found


def sick_run(num_steps: int = 20) -> list[Record]:
    """Records with something of everything that can be shown."""
    now = time.time()
    table = gradient_table((3.0, 4.0, float("nan"), 8.0), num_nonfinite=(0, 0, 7, 0), sample=gradient_sample())
    return [
        run_info(),
        *(
            step_report(number, time_unix_seconds=now, loss=2.0 / (1 + number), gradients=gradient_table())
            for number in range(num_steps)
        ),
        step_report(num_steps, time_unix_seconds=now, loss=float("nan"), gradients=table),
        *(epoch_report(number) for number in range(3)),
        self_report(),
        activity_report(
            {
                "loopscope.device.syncs": {("src/train.py:120", "item"): 1_234.0, ("src/metrics.py:7", "cpu"): 3.0},
                "loopscope.device.sync": {("src/train.py:120", "item"): 2.5},
                "loopscope.recompilations": {("forward (src/model.py:12)", "batch_of_one"): 4.0},
                "loopscope.graph_breaks": {("src/model.py:77", "print"): 0.0},
            }
        ),
        event("graph_break", "warning", 1, layer=None, site="src/model.py:77", message="Left.", remedy="Take it out."),
        event("device_sync", "info", 2, layer=None, site="src/train.py:120", message="Waits.", remedy="Do not."),
        event("nonfinite_gradient", step=num_steps, layer="head", first_cause=True, attributes={"incident": 3}),
        event("nonfinite_loss", step=num_steps, layer=None, attributes={"incident": 3}),
        health_report(anomaly(step=num_steps), anomaly("nonfinite_loss", step=num_steps, layers=())),
    ]


def picture(
    known: State,
    width: int = 80,
    height: int | None = 24,
    *,
    is_unicode: bool = True,
    link: Link | None = None,
    scroll: Scroll | None = None,
    footer: str = "q quits",
) -> list[str]:
    """The lines that are drawn."""
    console = Console(width=width, force_terminal=True)
    sheet = Sheet(console=console, width=width, glyphs=UNICODE if is_unicode else ASCII)
    frame = Frame(sheet=sheet, height=height, scroll=scroll or Scroll(), footer=footer)
    return [line.plain for line in draw(known, link or Link(), frame)]
