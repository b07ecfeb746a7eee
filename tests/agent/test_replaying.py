"""Laws of replaying: what is told of a log is what the worker told of the run, to the last attribute."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.builders import TIME, run_info, step_report
from tests.detecting import noise, reports_of
from tests.recorder import Recorder

from loopscope.config import Config
from loopscope.errors import SettingError
from loopscope.notes import CompileNote, InplaceNote
from loopscope.records import Event, Record, StepReport
from loopscope.replaying import replay
from loopscope.report import Log
from loopscope_exporters.encoding import encode

BREAK = CompileNote(kind="break", site="train.py:9", text="call print", location="model.py:3")
LIMIT = CompileNote(kind="limit", frame="f (train.py:7)", site="train.py:7", reasons=("L['x'].size()[0] == 3",))
IN_PLACE = InplaceNote(
    kind="inplace_conflict", severity="critical", cause="raised", message="m", remedy="r", site="train.py:5",
    operator="add_",
)  # fmt: skip


def recompiled(line: int = 7) -> CompileNote:
    """Return the note of a frame's second variant."""
    return CompileNote(
        kind="frame", frame=f"f{line} (train.py:{line})", site=f"train.py:{line}", variants=2,
        reasons=("L['x'].size()[0] == 3",),
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log goes."""
    return tmp_path / "run.jsonl"


def replayed(path: Path, *rules: str) -> list[Event]:
    """Return the events of a replay."""
    return [record for record in replay(Log(path), Config(rules=rules)) if isinstance(record, Event)]


def lines(events: Sequence[Event]) -> list[str]:
    """Return all that events say."""
    return [encode(event) for event in events]


def trouble(recorder: Recorder, num_steps: int = 120) -> list[Event]:
    """A loop that is compiled anew every third step, whose gradient is NaN once and whose loss leaves its range."""
    for step, report in enumerate(reports_of(noise(num_steps))):
        notes = [recompiled()] if step % 3 == 2 else []
        loss = math.nan if step == 70 else 900.0 if step >= 90 else 1.0
        recorder.step(dataclasses.replace(report, loss=loss), *notes)
    return recorder.end()


def test_a_long_run_is_told_again(path: Path) -> None:
    """Events of notes count for the detectors of their step, over the ends of batches."""
    told = trouble(Recorder(path))

    assert lines(replayed(path)) == lines(told)
    assert {"recompilation", "recompile_storm", "nonfinite_loss", "loss_diverging"} <= {each.kind for each in told}


def skip(recorder: Recorder) -> None:
    """Recompilations after a skipped step, whose number they bear: they are none of its own."""
    recorder.step(step_report(0))
    recorder.step(step_report(1, skipped="grad_scaler", num_steps=0))
    recorder.between(5.0, *[recompiled()] * 5)
    recorder.step(step_report(1))


def looks(recorder: Recorder) -> None:
    """Two looks of an idle worker: each is grouped by itself."""
    recorder.step(step_report(0))
    recorder.between(1.0, BREAK)
    recorder.between(2.0, recompiled())
    recorder.step(step_report(1))


def early(recorder: Recorder) -> None:
    """Notes before the first step, and after the last."""
    recorder.between(-1.0, BREAK)
    recorder.step(step_report(0), recompiled())
    recorder.between(1.0, BREAK)


def in_place(recorder: Recorder) -> None:
    """Events with much of their own, as causes and as results."""
    recorder.step(step_report(0), dataclasses.replace(IN_PLACE, severity="info", cause="unchecked"))
    recorder.step(step_report(1), IN_PLACE, LIMIT)
    recorder.step(step_report(2, loss=math.nan), dataclasses.replace(IN_PLACE, site="train.py:6"), recompiled(8))
    recorder.step(step_report(3), BREAK)


@pytest.mark.parametrize("act", [skip, looks, early, in_place])
def test_notes_are_told_again(path: Path, act: Callable[[Recorder], None]) -> None:
    """At their places, with their causes, and with all their attributes."""
    recorder = Recorder(path)
    act(recorder)

    told = recorder.end()

    assert lines(replayed(path)) == lines(told)
    assert told


class Failing:
    """A detector of somebody else that fails at step 3."""

    name = "failing"

    def see(self, report: Record) -> tuple[Event, ...]:
        """Fail."""
        if isinstance(report, StepReport) and report.step == 3:
            raise ValueError(report.step)
        return ()


def test_what_was_told_of_the_agent_itself_is_told_again(path: Path) -> None:
    """A part that switched itself off, beside an anomaly of the same step."""
    recorder = Recorder(path, None, Failing())
    for step in range(4):
        recorder.step(step_report(step, loss=math.nan if step == 3 else 1.0))
    told = recorder.end()

    assert lines(replayed(path)) == lines(told)
    assert [each.kind for each in told] == ["nonfinite_loss", "probe_disabled"]


@pytest.mark.parametrize("seed", range(6))
def test_any_run_is_told_again(path: Path, seed: int) -> None:
    """Two optimizers, skipped steps, NaN and jumps of the loss, notes of steps and between them, in any order."""
    draw, recorder = random.Random(seed), Recorder(path)
    steps = dict.fromkeys(("critic", "generator"), 0)
    tables = reports_of(noise(400, seed=seed))
    for index, report in enumerate(tables):
        optimizer = draw.choice(("critic", "generator"))
        is_skipped = draw.random() < 0.1
        notes = [
            draw.choice((recompiled(draw.randrange(3)), BREAK, LIMIT, IN_PLACE)) for _ in range(draw.randrange(-9, 3))
        ]
        recorder.step(
            dataclasses.replace(
                report,
                step=steps[optimizer],
                optimizer=optimizer,
                time_unix_seconds=TIME + 0.1 * index,
                loss=draw.choice((1.0,) * 40 + (math.nan, 500.0)),
                skipped="grad_scaler" if is_skipped else None,
                num_steps=0 if is_skipped else draw.choice((1, 1, 1, 3)),
            ),
            *notes,
        )
        steps[optimizer] += not is_skipped
        if draw.random() < 0.05:
            recorder.between(
                0.1 * index + 0.05, *[draw.choice((recompiled(), BREAK)) for _ in range(draw.randrange(3))]
            )

    told = recorder.end()

    assert lines(replayed(path)) == lines(told)
    assert len({each.kind for each in told}) > 5


@pytest.mark.parametrize("name", ["run-1", "run-2"], ids=["of the same name", "of another"])
def test_a_run_that_was_appended_begins_afresh(path: Path, name: str) -> None:
    """It is no continuation of the one before; what it notes before its first step comes after the steps of that."""
    told = trouble(Recorder(path))
    second = Recorder(path, run_info(run=name, pid=4_712, time_unix_seconds=TIME + 1_000))
    second.between(1_000.0, BREAK)
    told += trouble(second)

    assert lines(replayed(path)) == lines(told)
    assert [each.kind for each in told].count("recompile_storm") == 2


def test_a_run_without_its_own_line_is_judged(path: Path) -> None:
    """Its layers then are in the order of the parameters; a line that a later file repeats begins no other run."""
    told = trouble(Recorder(path))
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first[:50], *rest[:100], first, *rest[100:]]))

    assert lines(replayed(path)) == lines(told)


@pytest.mark.parametrize("shift", [0, 1, 7])
def test_logs_of_agents_may_be_mixed(tmp_path: Path, path: Path, shift: int) -> None:
    """Each is judged by itself where its events stand behind their step; steps keep the order of the lines."""
    told: dict[str, list[Event]] = {}
    pieces: list[list[str]] = []
    for index, agent in enumerate(("model", "critic", "policy")):
        told[agent] = trouble(Recorder(tmp_path / agent, run_info(agent=agent)), 100 + 10 * index)
        texts = (tmp_path / agent).read_text().splitlines()
        begins = [place for place, text in enumerate(texts) if '"type":"step"' in text]
        groups = ["\n".join(texts[begin:end]) for begin, end in itertools.pairwise([0, *begins, len(texts)])]
        pieces.append([""] * (shift * index) + groups)
    path.write_text("\n".join(itertools.chain(*itertools.zip_longest(*pieces, fillvalue=""))))

    records = list(replay(Log(path), Config()))

    for agent, events in told.items():
        assert lines([each for each in records if isinstance(each, Event) and each.agent == agent]) == lines(events)
    steps = [(each.agent, each.step) for each in records if isinstance(each, StepReport)]
    entries = [json.loads(line) for line in path.read_text().splitlines() if '"type":"step"' in line]
    assert steps == [(entry["agent"], entry["step"]) for entry in entries]


def test_other_rules_give_other_causes(path: Path) -> None:
    """What followed from something is a first cause itself where the rule of that is off."""
    recorder = Recorder(path)
    for step, report in enumerate(reports_of(noise(120))):
        recorder.step(dataclasses.replace(report, loss=math.nan if step == 70 else 900.0 if step > 90 else 1.0))
    told = recorder.end()
    diverging = next(each for each in told if each.kind == "loss_diverging")
    assert diverging.attributes["cause"] == "nonfinite_loss"

    (alone,) = replayed(path, "nonfinite_loss=off")

    assert (alone.kind, alone.first_cause, alone.step) == ("loss_diverging", True, diverging.step)
    assert "cause" not in alone.attributes


def test_what_is_taken_from_the_log_is_grouped_anew(path: Path) -> None:
    """A write in place that followed from a NaN is a cause of its own where NaN is no matter."""
    recorder = Recorder(path)
    for step in range(10):
        notes = [IN_PLACE] if step == 7 else []
        recorder.step(step_report(step, loss=math.nan if step == 5 else 1.0), *notes)
    written = recorder.end()[-1]
    assert (written.kind, written.attributes["cause"], written.first_cause) == (IN_PLACE.kind, "nonfinite_loss", False)

    (again,) = replayed(path, "nonfinite_loss=off")

    assert (again.kind, again.first_cause) == (IN_PLACE.kind, True)
    assert "cause" not in again.attributes
    assert again.attributes["evidence"] == IN_PLACE.cause


def test_what_is_of_no_step_keeps_its_place(tmp_path: Path, path: Path) -> None:
    """In a log of two agents, one of which has not stepped yet."""
    stepped, idle = (Recorder(tmp_path / agent, run_info(agent=agent)) for agent in ("model", "critic"))
    for step in range(3):
        stepped.step(step_report(step))
    idle.between(5.0, BREAK)
    stepped.end()
    idle.end()
    (head, *steps), (other, *noted) = ((tmp_path / agent).read_text().splitlines() for agent in ("model", "critic"))
    path.write_text("\n".join([head, other, *steps, *noted]))

    records = list(replay(Log(path), Config()))

    assert [record.kind if isinstance(record, Event) else record.step for record in records] == [0, 1, 2, "graph_break"]


def test_a_wrong_rule_is_told_before_anything_is_read(path: Path) -> None:
    """Not after minutes."""
    path.write_text("no log")

    with pytest.raises(SettingError, match="no_such_rule"):
        replay(Log(path), Config(rules=("no_such_rule=off",)))


@pytest.mark.parametrize(
    "change",
    [
        {"gradients": [1]},
        {"gradients": 3},
        {"learning_rates": None},
        {"syncs": [3]},
        {"num_dropped_lines": "many"},
        {"loss": [1]},
        {"num_steps": None},
    ],
    ids=str,
)
def test_a_strange_line_costs_itself_at_most(path: Path, change: dict[str, Any]) -> None:
    """Something else has written into the log: the lines around it are judged."""
    trouble(Recorder(path), 100)
    texts = path.read_text().splitlines()
    strange = json.loads(texts[40]) | {"type": "step"} | change
    path.write_text("\n".join([*texts[:40], json.dumps(strange), *texts[40:]]))

    assert "nonfinite_loss" in {each.kind for each in replayed(path)}
