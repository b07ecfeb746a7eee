"""A run that is killed leaves a log that a report and a comparison can be made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.python_process import run_python, start_python

from loopscope.report import Log, compare, html_page, summarise, text_report

SCRIPT = """
import os, signal, sys
import torch, loopscope
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
path, num_steps, is_killed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "killed"
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.05)
agent = loopscope.attach(model, optimizer, jsonl=path, port=None, log_events=False)
for step in range(num_steps):
    optimizer.zero_grad()
    model(torch.randn(6, 4)).square().mean().backward()
    optimizer.step()
    if is_killed and step == num_steps - 10:
        agent.flush(10)
if is_killed:
    print("trained", flush=True)
    signal.pause()
agent.detach()
"""
NUM_STEPS = 60


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of a run that ended, and of the same one killed before its end, its last line cut in the middle."""
    directory = tmp_path_factory.mktemp("killed")
    run_python("-c", SCRIPT, str(directory / "whole.jsonl"), str(NUM_STEPS), "ended")
    with start_python("-c", SCRIPT, str(directory / "killed.jsonl"), str(NUM_STEPS - 10), "killed") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "trained\n"
        process.kill()  # SIGKILL
        process.wait(30)
    killed = (directory / "killed.jsonl").read_bytes()
    steps = [line for line in killed.splitlines() if b'"type":"step"' in line]
    # What is flushed is whole lines; a full disk or a file system that is cut off leaves a part of one.
    (directory / "killed.jsonl").write_bytes(killed + steps[-1][:80])
    return directory


def test_report_has_what_was_flushed_and_says_what_was_cut(directory: Path) -> None:
    """Every step up to the last flush is there, the cut line is counted, and both forms of the report say so."""
    summary = summarise(Log(directory / "killed.jsonl"))

    ((track,),) = [session.tracks for session in summary.sessions]
    assert NUM_STEPS - 20 < track.num_reports <= NUM_STEPS - 10
    assert summary.log.num_cut_lines == 1
    assert "1 line was cut" in html_page(summary)
    assert "1 line was cut" in text_report(summary, width=100)


def test_comparison_with_the_whole_run_tells_how_far_they_are_the_same(directory: Path) -> None:
    """The killed run trained the same as far as it went: that is a difference in length alone."""
    comparison = compare(Log(directory / "whole.jsonl"), Log(directory / "killed.jsonl"))

    (pair,) = comparison.pairs
    assert not comparison.is_equal
    assert pair.steps.gaps == ()
    assert pair.steps.num_only_a == NUM_STEPS - pair.steps.num_common > 0
    assert pair.steps.num_only_b == 0
