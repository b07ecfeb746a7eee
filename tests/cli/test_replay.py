"""Laws of `loopscope replay`: what is told of a log is what was told of the run."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from tests.builders import event, run_info
from tests.detecting import noise, reports_of
from tests.loops import batch, network, watch
from torch.optim import SGD

from loopscope.cli import main
from loopscope.cli.replay import replay
from loopscope.config import Config
from loopscope.detectors import default_detectors
from loopscope.guard import Guard
from loopscope.judging import Judge
from loopscope.records import Event, StepReport
from loopscope.report import Log
from loopscope_exporters.encoding import encode
from loopscope_exporters.jsonl import JsonlExporter


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

    records = list(replay(Log(path), Config()))

    assert _facts([each for each in records if isinstance(each, Event)]) == _facts(events)
    assert [each.step for each in records if isinstance(each, StepReport)] == list(range(60))
    assert {"zero_learning_rate", "nonfinite_loss", "nonfinite_gradient"} <= {each.kind for each in events}


def _record(path: Path, steps: Iterable[tuple[StepReport, list[Event]]], agent: str = "model") -> list[Event]:
    """Write a log of these steps and the events of their notes; return what was told of them."""
    exporter, info = JsonlExporter(path), run_info(agent=agent)
    judge = Judge(info, default_detectors(), Guard(strict=True))
    told: list[Event] = []
    exporter.export(info)
    for report, noted in steps:
        events = [dataclasses.replace(each, agent=agent) for each in noted]
        verdict = judge.judge(dataclasses.replace(report, agent=agent, events=tuple(events)), events)
        for record in (dataclasses.replace(report, agent=agent), *verdict.events):
            exporter.export(record)
        told += verdict.events
    exporter.close()
    return told


def _trouble() -> Iterator[tuple[StepReport, list[Event]]]:
    """A loop that is compiled anew every third step, whose gradient is NaN once and whose loss leaves its range."""
    for step, report in enumerate(reports_of(noise(200))):
        noted = [event("recompilation", "warning", step, layer=None, site="train.py:7")] if step % 3 == 2 else []
        yield dataclasses.replace(report, loss=math.nan if step == 70 else 900.0 if step >= 150 else 1.0), noted


def test_replay_of_many_steps_is_as_one_after_the_other(tmp_path: Path) -> None:
    """Events of notes count for the step that they are of; causes and attributes are those of the run."""
    told = _record(tmp_path / "run.jsonl", _trouble())

    records = list(replay(Log(tmp_path / "run.jsonl"), Config()))

    assert [encode(each) for each in records if isinstance(each, Event)] == list(map(encode, told))
    assert {"recompilation", "recompile_storm", "nonfinite_loss", "loss_diverging"} <= {each.kind for each in told}
    assert [each.step for each in records if isinstance(each, StepReport)] == list(range(200))


def test_logs_of_two_agents_may_be_merged(tmp_path: Path) -> None:
    """Each is judged by itself; steps and events keep the order of the lines."""
    told = {agent: _record(tmp_path / agent, _trouble(), agent) for agent in ("model", "critic")}
    lines = zip(*((tmp_path / agent).read_text().splitlines() for agent in told), strict=True)
    (tmp_path / "run.jsonl").write_text("\n".join(itertools.chain(*lines)))

    records = list(replay(Log(tmp_path / "run.jsonl"), Config()))

    for agent, events in told.items():
        found = [encode(each) for each in records if isinstance(each, Event) and each.agent == agent]
        assert found == list(map(encode, events))
    steps = [(each.step, each.agent) for each in records if isinstance(each, StepReport)]
    assert steps == list(itertools.product(range(200), told))


def test_causes_are_those_of_the_rules_given(tmp_path: Path) -> None:
    """What was a result of something in the log is a first cause where the rule of that is off."""
    noted = {
        38: [event("recompilation", "warning", 38, layer=None)],
        40: [event("graph_break", "warning", 40, layer=None)],
    }
    steps = [(report, noted.get(report.step, [])) for report, _ in _trouble()]
    told = _record(tmp_path / "run.jsonl", steps)
    broken = next(each for each in told if each.kind == "graph_break")
    assert broken.attributes["cause"] == "recompilation"

    lines = [line for line in (tmp_path / "run.jsonl").read_text().splitlines() if '"kind":"recompilation"' not in line]
    (tmp_path / "run.jsonl").write_text("\n".join(lines))
    again = next(each for each in replay(Log(tmp_path / "run.jsonl"), Config()) if isinstance(each, Event))

    assert (again.kind, again.first_cause) == ("graph_break", True)
    assert "cause" not in again.attributes


def test_events_that_no_step_of_the_log_has_are_told(tmp_path: Path) -> None:
    """What was noted before the first step, and between two: at its place, of no step."""
    reports = [report for report, _ in itertools.islice(_trouble(), 3)]
    early, late = (event("graph_break", "warning", step, layer=None, site="train.py:9") for step in (0, 2))
    exporter = JsonlExporter(tmp_path / "run.jsonl")
    for record in (run_info(), early, *reports[:2], late, reports[2]):
        exporter.export(record)
    exporter.close()

    records = list(replay(Log(tmp_path / "run.jsonl"), Config()))

    kinds = [each.kind if isinstance(each, Event) else each.step for each in records]
    assert kinds == ["graph_break", 0, 1, "graph_break", 2]
    assert not any(each.events for each in records if isinstance(each, StepReport))


def test_rules_of_the_command_line_count(log: tuple[Path, list[Event]], capsys: pytest.CaptureFixture[str]) -> None:
    """A rule that is off tells nothing."""
    status = main(["replay", str(log[0]), "--rule", "zero_learning_rate=off", "--rule", "nonfinite_gradient=off"])

    output = capsys.readouterr().out
    assert status == 0
    assert "zero_learning_rate" not in output
    assert "nonfinite_loss" in output
    assert output.splitlines()[-1].startswith("60 steps read in ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no such file."),
        (b"", "It is empty"),
        (b"hello\n", "None of its lines is an entry"),
        (b'{"version":99,"type":"step"}\n', "The log has version 99"),
        (b'{"version":1,"type":"step","gradients":{"norms":[]}}\n', "It is JSON, but not of loopscope."),
    ],
    ids=["no file", "empty", "text", "of a later version", "of others"],
)
def test_a_log_that_cannot_be_used_is_said(
    tmp_path: Path, content: bytes | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line with what is allowed, and with exit status 2."""
    path = tmp_path / "run.jsonl"
    if content is not None:
        path.write_bytes(content)

    assert main(["replay", str(path)]) == 2

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert "loopscope.attach(jsonl=PATH)" in error


def test_a_wrong_rule_is_said_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and what there is instead."""
    (tmp_path / "run.jsonl").write_bytes(b"hello\n")

    assert main(["replay", str(tmp_path / "run.jsonl"), "--rule", "no_such_rule=off"]) == 2

    assert "no_such_rule" in capsys.readouterr().err


def test_lines_that_cannot_be_judged_are_counted(
    log: tuple[Path, list[Event]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines without the columns of their type, and one that kill -9 cut: the others are judged, and the counts told."""
    path, _ = log
    lines = path.read_bytes().splitlines()
    strange = [
        b'{"version":1,"type":"step","run":"a","agent":"m","step":1}',
        b'{"version":1,"type":"run","run":1,"agent":2}',
    ]
    path.write_bytes(b"\n".join([lines[0], *strange, *lines[1:], lines[-1][:50]]))

    assert main(["replay", str(path)]) == 0

    output = capsys.readouterr().out
    assert "nonfinite_loss" in output
    assert output.splitlines()[-3].startswith("60 steps read in ")
    assert output.splitlines()[-2:] == [
        "1 line was cut, as when a run is killed, and could not be read.",
        "2 lines were not of loopscope.",
    ]
