"""Attaching: from what the user gave to a started agent, and the table of the agents that live in this process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import time
import weakref
from collections.abc import Mapping
from typing import Any

from . import arguments
from .agent import Agent
from .config import Config

__all__ = ["attach_agent"]

_EXIT_SECONDS = 0.9
"""What the end of the process waits for all agents together; exporters that hang are left behind."""
_agents: weakref.WeakSet[Agent] = weakref.WeakSet()
_logger = logging.getLogger("loopscope")


def attach_agent(
    model: Any, optimizer: Any, *, name: str | None, config: Config | None, settings: Mapping[str, Any]
) -> Agent:
    """Check the arguments and return a started agent, or the living one of the same objects (see loopscope.attach)."""
    chosen = Config.build(settings, base=config)
    arguments.check_device(chosen.sync_device)
    models, optimizers = arguments.named_models(model), arguments.named_optimizers(optimizer)
    if not models and optimizers:
        models = arguments.find_models(optimizers.values())
    arguments.check_match(models, optimizers)
    for agent in _living():
        if agent._watches(models, optimizers):
            _warn_of_ignored(agent, name, chosen)
            return agent
    agent = Agent(_free_name(name), models, optimizers, chosen, others=_living(), on_stop=_forget)
    agent._start()
    _agents.add(agent)
    atexit.register(_close_all)
    _watch_forks()
    return agent


def _warn_of_ignored(agent: Agent, name: str | None, config: Config) -> None:
    if agent.config != config or name not in {None, agent.name}:
        _logger.warning(
            "loopscope: already attached as %r; the new name and settings are ignored. "
            "Call detach() on it first to change them.",
            agent.name,
        )


def _living() -> list[Agent]:
    return [agent for agent in list(_agents) if agent.is_attached]


def _free_name(name: str | None) -> str:
    taken = {agent.name for agent in _living()}
    wanted = name or "model"
    candidates = [wanted, *(f"{wanted}-{number}" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate not in taken)


def _forget(agent: Agent) -> None:
    _agents.discard(agent)
    if not _agents:
        atexit.unregister(_close_all)


@functools.cache
def _watch_forks() -> None:
    """Once a process: os.register_at_fork cannot be undone."""
    os.register_at_fork(after_in_child=_leave_all_in_child)


def _leave_all_in_child() -> None:
    with contextlib.ExitStack() as stack:  # each of them, whatever becomes of the others
        for agent in list(_agents):
            stack.callback(agent._leave_in_child)
    _agents.clear()
    atexit.unregister(_close_all)


def _close_all() -> None:
    """At the end of the process: have all workers end at once, then wait for them together."""
    deadline = time.monotonic() + _EXIT_SECONDS
    stopped = [agent for agent in _living() if agent._stop(deadline, _EXIT_SECONDS)]
    for agent in stopped:
        agent._await_end(deadline)
