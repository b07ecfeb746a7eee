"""Laws of the detectors at work: what the pipeline gives them, and where their events go."""

from __future__ import annotations

import logging

import pytest
import torch
from tests.loops import batch, network, watch
from torch.optim import SGD


def test_events_reach_the_agent_and_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A rate of zero is told once, in `agent.events` and in the log."""
    model = network()
    optimizer = SGD(model.parameters(), 0.0)
    with caplog.at_level(logging.WARNING, "loopscope"), watch(model, optimizer, log_events=True) as watched:
        for _ in range(30):
            model(batch()).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert watched.agent.flush(10)

        kinds = [event.kind for event in watched.agent.events if event.severity != "info"]
        assert kinds == ["zero_learning_rate"]

    assert sum("zero_learning_rate" in record.getMessage() for record in caplog.records) == 1


def test_rule_that_is_off_tells_nothing() -> None:
    """Also from the setting as the environment would have it."""
    model = network()
    optimizer = SGD(model.parameters(), 0.0)
    with watch(model, optimizer, rules=("zero_learning_rate=off",)) as watched:
        for _ in range(30):
            model(batch()).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        assert [report.events for report in watched.reports if report.events] == []


def test_recompilations_are_seen_by_their_detector() -> None:
    """Events that the worker makes of notes are in the report that detectors see."""
    torch._dynamo.reset()
    model = network()
    compiled, optimizer = torch.compile(model, backend="eager", dynamic=False), SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as watched:
        for size in range(2, 9):
            compiled(batch(size=size)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert watched.agent.flush(10)
        kinds = [event.kind for event in watched.memory.events]
    torch._dynamo.reset()

    assert kinds.count("recompilation") >= 5
    assert kinds.count("recompile_storm") == 1


def test_frozen_parameters_are_in_the_table() -> None:
    """As of the last sampled step."""
    model = network()
    model[0].requires_grad_(False)
    optimizer = SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as watched:
        model(batch()).sum().backward()
        optimizer.step()
        table = watched.only.gradients

    assert table is not None
    assert [table.names[index] for index in table.frozen] == ["0.weight", "0.bias"]
