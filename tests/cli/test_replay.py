"""Laws of `loopscope replay`: what is told of a log is what was told of the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.loops import batch, network, watch
from torch.optim import SGD

from loopscope.cli import main
from loopscope.cli.replay import replay
from loopscope.config import Config
from loopscope.records import Event, StepReport


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, list[Event]]:
    """A run in which the rate becomes zero and a batch is NaN, and the events that it brought."""
    path, model = tmp_path / "run.jsonl", network()
    optimizer = SGD(model.parameters(), 0.1)
    with watch(model, optimizer, jsonl=path) as watched:
        for step in range(60):
            if step == 20:
                optimizer.param_groups[0]["lr"] = 0.0
            inputs = batch(step) * (torch.nan if step == 50 else 1.0)
            model(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert watched.agent.flush(10)
        events = list(watched.memory.events)
    return path, events


def _facts(events: list[Event]) -> list[tuple[object, ...]]:
    return [(each.kind, each.severity, each.step, each.layer, each.first_cause, each.message) for each in events]


def test_replay_tells_what_the_run_told(log: tuple[Path, list[Event]]) -> None:
    """The same events at the same steps with the same causes, in the same order."""
    path, events = log

    records = list(replay(path, Config()))

    assert _facts([each for each in records if isinstance(each, Event)]) == _facts(events)
    assert [each.step for each in records if isinstance(each, StepReport)] == list(range(60))
    assert {"zero_learning_rate", "nonfinite_loss", "nonfinite_gradient"} <= {each.kind for each in events}


def test_rules_of_the_command_line_count(log: tuple[Path, list[Event]], capsys: pytest.CaptureFixture[str]) -> None:
    """A rule that is off tells nothing."""
    status = main(["replay", str(log[0]), "--rule", "zero_learning_rate=off", "--rule", "nonfinite_gradient=off"])

    output = capsys.readouterr().out
    assert status == 0
    assert "zero_learning_rate" not in output
    assert "nonfinite_loss" in output
    assert output.splitlines()[-1].startswith("60 steps read in ")


@pytest.mark.parametrize(
    "arguments", [["absent.jsonl"], ["{log}", "--rule", "no_such_rule=off"]], ids=["no file", "no rule"]
)
def test_what_cannot_be_used_is_said(
    log: tuple[Path, list[Event]], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 and a remedy; nothing is read before a wrong rule is told."""
    status = main(["replay", *(text.format(log=log[0]) for text in arguments)])

    assert status == 2
    assert capsys.readouterr().err
