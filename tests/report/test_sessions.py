"""What a report says of a run is what the run's own records say, counted independently."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.builders import (
    activity_report,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    layer_statistics,
    run_info,
    step_report,
)
from tests.jsonl_logs import write
from tests.loops import FullRun, network, samples, watch
from torch.optim import SGD
from torch.utils.data import DataLoader

from loopscope.errors import SettingError
from loopscope.records import NUM_EXPONENT_BINS, Record
from loopscope.report import Log, Selection, Session, summarise
from loopscope.report import activity as lines
from loopscope.report.sessions import MAX_SESSIONS


def only(path: Path) -> Session:
    """Return the one session of a log."""
    (session,) = summarise(Log(path)).sessions
    return session


def session_of(path: Path, *records: Record) -> Session:
    """Write the records as a log and return its one session."""
    write(path, *records)
    return only(path)


def test_real_run_is_summed_up(tmp_path: Path) -> None:
    """A run with a loader, clipping and a skipped step: every figure is that of the reports kept in memory."""
    run = FullRun()
    with watch(run.model, run.optimizer, jsonl=str(tmp_path / "run.jsonl")) as watched:
        run.train(watched.agent)
        reports = watched.reports
    (track,) = only(tmp_path / "run.jsonl").tracks

    losses = [report.loss for report in reports]
    norms = [report.gradients.global_norm for report in reports if report.gradients is not None]
    durations = [report.duration_seconds for report in reports if report.duration_seconds is not None]
    assert track.num_reports == len(reports) == 12
    assert track.num_steps == 11
    assert track.num_skipped == {"grad_scaler": 1}
    assert track.loss.last == losses[-1]
    assert track.loss.whole.low == min(loss for loss in losses if math.isfinite(loss))
    assert track.loss.whole.num_nonfinite == sum(not math.isfinite(loss) for loss in losses) == 1
    assert track.norm.whole.high == pytest.approx(np.nanmax(np.array(norms)[np.isfinite(norms)]))
    assert track.num_samples == sum(report.num_samples for report in reports)
    assert track.timing.quantile(0.5) == pytest.approx(np.median(durations))
    assert track.num_epochs == 2


def test_several_agents_and_optimizers_are_told_apart(tmp_path: Path) -> None:
    """Each agent is a session, each of its optimizers a track, with its own steps."""
    path = tmp_path / "run.jsonl"
    records = [
        step_report(step, agent=agent, optimizer=optimizer, loss=loss)
        for step in range(3)
        for agent, optimizer, loss in (("gan", "generator", 1.0), ("gan", "critic", 2.0), ("probe", None, 3.0))
    ]

    write(path, run_info(agent="gan"), run_info(agent="probe"), *records)

    sessions = summarise(Log(path)).sessions
    found = {(s.agent, t.optimizer): (t.num_steps, t.loss.whole.mean) for s in sessions for t in s.tracks}
    assert found == {("gan", "generator"): (3, 1.0), ("gan", "critic"): (3, 2.0), ("probe", None): (3, 3.0)}


def test_appended_runs_are_sessions_of_their_own(tmp_path: Path) -> None:
    """Two runs in one file do not mix, though their steps have the same numbers."""
    path = tmp_path / "run.jsonl"
    for name in ("first", "second"):
        write(path, run_info(run=name), *(step_report(step, run=name) for step in range(4)))

    assert [(session.run, session.tracks[0].num_steps) for session in summarise(Log(path)).sessions] == [
        ("first", 4),
        ("second", 4),
    ]


def test_only_the_latest_of_many_runs_are_kept(tmp_path: Path) -> None:
    """A log of more runs than fit keeps the latest and counts the others."""
    path = tmp_path / "run.jsonl"
    write(path, *(step_report(0, run=f"run-{index}") for index in range(MAX_SESSIONS + 3)))

    summary = summarise(Log(path))

    assert [session.run for session in summary.sessions] == [f"run-{index}" for index in range(3, MAX_SESSIONS + 3)]
    assert summary.num_sessions_left_out == 3


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Selection(agent="b"), {("1", "b", 0), ("2", "b", 0), ("2", "b", 1)}),
        (Selection(run="2"), {("2", "b", 0), ("2", "b", 1)}),
        (Selection(run="2", rank=1), {("2", "b", 1)}),
    ],
)
def test_selection_keeps_what_is_wanted(tmp_path: Path, wanted: Selection, expected: set[object]) -> None:
    """Runs, agents and ranks can be chosen, together or alone."""
    path = tmp_path / "run.jsonl"
    keys = (("1", "a", 0), ("1", "b", 0), ("2", "b", 0), ("2", "b", 1))
    write(path, *(step_report(0, run=run, agent=agent, rank=rank) for run, agent, rank in keys))

    sessions = summarise(Log(path), wanted).sessions

    assert {(session.run, session.agent, session.rank) for session in sessions} == expected


def test_selection_of_nothing_says_what_there_is(tmp_path: Path) -> None:
    """Nobody gets an empty report: the error names what can be chosen."""
    write(tmp_path / "run.jsonl", step_report(0))

    with pytest.raises(SettingError, match="Nothing in it is of --agent critic; it has run run-1 agent model"):
        summarise(Log(tmp_path / "run.jsonl"), Selection(agent="critic"))


def test_layers_of_epochs_have_their_mean_norms_and_health(tmp_path: Path) -> None:
    """The grid has a column an epoch, the logged means, and the state with the rule that decided."""
    states = [(("healthy", "healthy"), ("", "")), (("healthy", "vanishing"), ("", "vanishing_gradient"))]
    statistics = [
        layer_statistics(mean=np.array([1.0 + epoch, 8.0]), health=health, health_rule=rule)
        for epoch, (health, rule) in enumerate(states)
    ]
    records = [epoch_report(epoch, gradients=each) for epoch, each in enumerate(statistics)]

    (track,) = session_of(tmp_path / "run.jsonl", run_info(), *records).tracks

    columns = track.grid.columns()
    assert (track.grid.unit, track.grid.layers) == ("epoch", ("encoder", "head"))
    assert [column.norms(2).tolist() for column in columns] == [[1.0, 8.0], [2.0, 8.0]]
    assert columns[1].health == {0: ("healthy", ""), 1: ("vanishing", "vanishing_gradient")}
    assert list(track.health()) == [("encoder", "healthy", ""), ("head", "vanishing", "vanishing_gradient")]


def test_without_epochs_the_grid_is_of_windows_or_steps(tmp_path: Path) -> None:
    """Windows stand in for epochs, and a log without either has spans of its steps."""
    windows = [epoch_report(0, kind="window", window=index) for index in range(3)]
    (of_windows,) = session_of(tmp_path / "windows.jsonl", *windows).tracks
    (of_steps,) = session_of(tmp_path / "steps.jsonl", *(step_report(step) for step in range(5))).tracks

    assert (of_windows.grid.unit, len(of_windows.grid.columns())) == ("window", 3)
    assert (of_steps.grid.unit, len(of_steps.grid.columns())) == ("step", 5)
    # the builder's parameters have the norms 3 and 4, 6 and 8
    assert of_steps.grid.columns()[0].norms(2) == pytest.approx([5.0, 10.0])


def test_magnitudes_are_summed_over_layers(tmp_path: Path) -> None:
    """The histogram of a step is that of all layers, by exponent."""
    histogram = np.zeros((2, NUM_EXPONENT_BINS), dtype=np.int64)
    histogram[0, 10], histogram[1, 10], histogram[1, 40] = 1, 2, 9
    sampled = gradient_table(sample=gradient_sample(histogram_GB=histogram))

    (track,) = session_of(tmp_path / "run.jsonl", step_report(0, gradients=sampled), step_report(1)).tracks

    (span,) = track.magnitudes.spans()
    assert span.shares[[10, 40]] == pytest.approx([0.25, 0.75])
    assert span.shares.sum() == pytest.approx(1.0)


def test_syncs_come_from_the_latest_counters(tmp_path: Path) -> None:
    """Counters count from attach, so the last ones stand: they are not added up."""
    reports = [
        activity_report(
            {
                "loopscope.device.syncs": {("a.py:1", "item"): number, ("b.py:2", "cpu"): 100.0},
                "loopscope.device.sync": {("a.py:1", "item"): number / 10},
            }
        )
        for number in (2.0, 5.0)
    ]

    session = session_of(tmp_path / "run.jsonl", step_report(0), *reports)

    assert [(line.where, line.label, line.count, line.seconds) for line in lines.syncs(session)] == [
        ("b.py:2", "cpu", 100.0, 0.0),
        ("a.py:1", "item", 5.0, 0.5),
    ]


def test_events_of_one_incident_have_its_first_cause_at_the_head(tmp_path: Path) -> None:
    """Incidents are ranked by severity, then step; the first cause leads whatever came before it in the log."""
    grouped = [
        event("loss_spike", "warning", 5, layer=None, attributes={"incident": 1}),
        event("exploding_gradient", "warning", 4, first_cause=True, attributes={"incident": 1}),
        event("nonfinite_loss", "critical", 6, layer=None, attributes={"incident": 1}),
    ]
    others = [event("recompilation", "warning", step, layer=None, site="a.py:3") for step in (1, 9)]

    session = session_of(tmp_path / "run.jsonl", *grouped, *others, event("compilation", "info", 0))

    ranked = session.incidents.ranked()
    assert [(each.severity, each.head["kind"], each.num_events) for each in ranked] == [
        ("critical", "exploding_gradient", 3),
        ("warning", "recompilation", 2),
        ("info", "compilation", 1),
    ]
    assert {each["kind"] for each in ranked[0].followers} == {"loss_spike", "nonfinite_loss"}
    assert (ranked[1].head["step"], ranked[1].last_step) == (1, 9)


def test_beginning_that_was_rotated_away_is_missed(tmp_path: Path) -> None:
    """A log whose first files are gone says so; a resumed run's does not."""
    gone = session_of(tmp_path / "gone.jsonl", run_info(), step_report(50))
    resumed = session_of(tmp_path / "resumed.jsonl", run_info(initial_step=50), step_report(50))

    assert gone.is_beginning_missing
    assert not resumed.is_beginning_missing


def test_real_epochs_are_those_of_the_loader(tmp_path: Path) -> None:
    """The columns of a real run's grid are its epochs, and their norms the means over each epoch's steps."""
    model = network()
    optimizer = SGD(model.parameters(), 0.05)
    with watch(model, optimizer, jsonl=str(tmp_path / "run.jsonl")) as watched:
        for _ in range(3):
            for inputs in DataLoader(samples(8), batch_size=2):
                optimizer.zero_grad()
                model(inputs).square().mean().backward()
                optimizer.step()
        reports = watched.reports
    (track,) = only(tmp_path / "run.jsonl").tracks

    for epoch, column in enumerate(track.grid.columns()):
        norms = [r.gradients.layer_norms for r in reports if r.epoch == epoch and r.gradients is not None]
        assert len(norms) == column.num_steps == 4
        assert column.norms(2) == pytest.approx(np.mean(norms, axis=0))
