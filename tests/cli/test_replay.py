"""Laws of `loopscope replay`: what is told of a log is what was told of the run."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from tests.loops import batch, network, watch
from torch.optim import SGD

from loopscope.cli import main
from loopscope.config import Config
from loopscope.detectors.nonfinite import NonfiniteGradient
from loopscope.records import Event, StepReport
from loopscope.replaying import replay
from loopscope.report import Log
from loopscope_exporters.encoding import encode


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


def test_events_are_told_with_what_was_read(log: tuple[Path, list[Event]], capsys: pytest.CaptureFixture[str]) -> None:
    """One line an event, from `warning` on, with its step and its cause."""
    path, events = log

    assert main(["replay", str(path)]) == 0

    lines = capsys.readouterr().out.splitlines()
    told = [event for event in events if event.severity != "info"]
    assert [line.split(" step ")[1].split()[:3] for line in lines[:-1]] == [
        [str(event.step), event.severity, event.kind] for event in told
    ]
    assert lines[-1].startswith("60 steps read in ")
    assert lines[-1].endswith(f"; {len(told)} events")
    assert {"zero_learning_rate", "nonfinite_loss"} <= {event.kind for event in told}


def test_replay_tells_what_a_real_run_told(log: tuple[Path, list[Event]]) -> None:
    """The same events with the same causes and attributes, in the same order."""
    path, events = log

    records = list(replay(Log(path), Config()))

    assert [encode(each) for each in records if isinstance(each, Event)] == list(map(encode, events))
    assert [each.step for each in records if isinstance(each, StepReport)] == list(range(60))


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
        (b'{"version":"x"}\n{"version":null,"type":"step"}\n', "None of its lines is an entry"),
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
    """Lines without the columns of their type, or with something else in them, and one that kill -9 cut: the others are
    judged, and the counts told.
    """
    path, _ = log
    lines = path.read_bytes().splitlines()
    strange = [
        b'{"version":1,"type":"step","run":"a","agent":"m","step":1}',
        b'{"version":1,"type":"run","run":1,"agent":2}',
        *(re.sub(rb'"loss":[-0-9.e]+', b'"loss":' + value, line) for value in (b"[1]", b"{}") for line in lines[1:9]),
        *(re.sub(rb'"run":"[^"]*"', b'"run":["a"]', line) for line in lines[1:9]),
    ]
    path.write_bytes(b"\n".join([lines[0], *strange, *lines[1:], lines[-1][:50]]))

    assert main(["replay", str(path)]) == 0

    output, errors = capsys.readouterr()
    assert (strange[2].count(b"[1]"), errors) == (1, "")
    assert "nonfinite_loss" in output
    assert output.splitlines()[-3].startswith("60 steps read in ")
    assert output.splitlines()[-2:] == [
        "1 line was cut, as when a run is killed, and could not be read.",
        f"{len(strange)} lines were not of loopscope.",
    ]


def test_a_detector_that_fails_is_told(
    log: tuple[Path, list[Event]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is switched off, the others go on, and the last event says so: what was not judged is not passed over."""

    def fail(*_: object) -> int:
        raise ArithmeticError

    for name in ("see", "skim"):
        monkeypatch.setattr(NonfiniteGradient, name, fail)

    assert main(["replay", str(log[0])]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "step 59  warning   probe_disabled" in lines[-2]
    assert "detector.nonfinite_gradient failed 10 times" in lines[-2]
    assert any("nonfinite_loss" in line for line in lines)


def test_events_of_a_later_version_and_of_strange_files_are_told(
    log: tuple[Path, list[Event]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A severity that this version does not know, a name that no encoding has: both are printed."""
    path, events = log
    told = dataclasses.replace(events[0], kind="unheard_of", severity="notice", site="caf\udce9.py:3", layer=None)
    path.write_bytes(path.read_bytes() + encode(told).encode("ascii") + b"\n")

    assert main(["replay", str(path)]) == 0

    assert "notice    unheard_of             caf\\udce9.py:3" in capsys.readouterr().out


def test_a_detector_that_failed_in_the_run_may_be_sound_now(
    log: tuple[Path, list[Event]], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was told of our own detectors then is not told again; of a detector of the user's it is."""
    path, events = log
    for part in ("detector.layer_life", "detector.of_the_user", ["a", "list"]):
        event = dataclasses.replace(events[0], kind="probe_disabled", severity="warning", attributes={"part": part})
        path.write_bytes(
            path.read_bytes() + encode(dataclasses.replace(event, message=str(part))).encode("ascii") + b"\n"
        )

    assert main(["replay", str(path), "--severity", "critical"]) == 0

    output = capsys.readouterr().out
    assert "detector.of_the_user" in output
    assert "detector.layer_life" not in output
