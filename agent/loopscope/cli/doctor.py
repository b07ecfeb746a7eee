"""`loopscope doctor train.py`: run the first steps with everything armed and say what is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import loopscope

from ..records import Event
from .script import add_script_arguments, run_script

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "run the first steps of a training script with everything armed; exit status 1 when something is wrong"
_NUM_STEPS = 10
_RANKS = ("critical", "warning")
_FOUND = 1
_UNUSABLE = 2


class _Enough(SystemExit):
    """Ends the script after its first steps."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--steps", type=_positive, default=_NUM_STEPS, help="optimizer steps to look at (default: %(default)s)"
    )
    add_script_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the first steps, print the findings, return 0, 1 where there are any, 2 where no step was seen.

    An exception of the script's own passes, after the findings.
    """
    import torch

    settings: dict[str, Any] = {} if torch.cuda.is_available() else {"sync_device": "cpu"}
    agent = loopscope.attach(
        port=None, log_events=False, inplace_armed_steps=arguments.steps, sync_interval=1, **settings
    )
    handle = _stop_after(arguments.steps)
    try:
        run_script(arguments)
    except _Enough:
        pass
    except SystemExit as ended:
        if ended.code not in {None, 0}:
            raise
    finally:
        handle.remove()
        agent.flush()
        agent.detach()
        num_steps = 0 if agent.latest is None else agent.latest.step + 1
        has_found = _report(agent.events, num_steps)
    return _FOUND if has_found else 0 if num_steps else _UNUSABLE


def _stop_after(num_steps: int) -> Any:
    """Raise _Enough once any optimizer has taken so many steps; after our own hooks, which were there before."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    counts: dict[int, int] = {}

    def count(optimizer: Any, args: Any, kwargs: Any) -> None:
        counts[id(optimizer)] = counts.get(id(optimizer), 0) + 1
        if counts[id(optimizer)] >= num_steps:
            raise _Enough

    return register_optimizer_step_post_hook(count)


def _report(events: Sequence[Event], num_steps: int) -> bool:
    """Print the findings, the worst first; return whether there is any of severity warning or above."""
    findings = [event for rank in _RANKS for event in events if event.severity == rank]
    asides = [event for event in events if event.severity not in _RANKS]
    print(f"\nloopscope doctor: {num_steps} steps, {len(findings)} findings, {len(asides)} asides", flush=True)
    for event in (*findings, *asides):
        where = event.site or event.layer or f"step {event.step}"
        print(f"\n{event.severity}: {event.kind} at {where}\n  {event.message}")
        if event.remedy:
            print(f"  {event.remedy}")
    if not num_steps:
        print("\nNo optimizer step was seen: nothing could be checked.", file=sys.stderr)
    return bool(findings)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} cannot be used. Allowed: 1 and more.")
    return value
