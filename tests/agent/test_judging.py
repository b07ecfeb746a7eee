"""Laws of the judge: a batch of reports is judged as its reports would be one after the other."""

from __future__ import annotations

import itertools
import random

import pytest
from tests.builders import event, run_info, step_report
from tests.detecting import noise, reports_of

from loopscope.detectors import default_detectors
from loopscope.guard import Guard
from loopscope.judging import Judge, Verdict
from loopscope.records import StepReport


def troubled(seed: int) -> list[StepReport]:
    """Return a run in which gradients explode, vanish, die and stop being finite, and the loss with them."""
    draw = random.Random(seed)
    norms = noise(600, sigma=0.1, seed=seed)
    begin = draw.randrange(90, 110)
    norms[begin : begin + 9, 1] *= 1e3
    norms[begin + 90 : begin + 91, 2] = float("nan")
    norms[begin + 150 : begin + 160] *= 1e4
    norms[begin + 250 :, 0] = 0.0
    reports = reports_of(norms)
    losses = [2.0 + 0.1 * draw.random() for _ in reports]
    losses[begin + 90] = float("nan")
    losses[begin + 150] = 500.0
    return [
        step_report(each.step, gradients=each.gradients, loss=loss) for each, loss in zip(reports, losses, strict=True)
    ]


def at_once(judge: Judge, reports: list[StepReport], noted: list[tuple]) -> list[Verdict]:
    """Judge a batch."""
    told: list[tuple[StepReport, Verdict]] = []
    judge.judge_all(reports, noted, lambda *each: told.append(each))
    assert [report for report, _ in told] == reports
    return [verdict for _, verdict in told]


def in_batches(judge: Judge, reports: list[StepReport], noted: list[tuple], seed: int) -> list[Verdict]:
    """Judge batches of one to nine reports."""
    draw, told, rest = random.Random(seed), [], zip(reports, noted, strict=True)
    while batch := list(itertools.islice(rest, draw.randint(1, 9))):
        told += at_once(judge, *map(list, zip(*batch, strict=True)))
    return told


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_is_judged_as_its_reports_one_by_one(seed):
    """Events with their causes, the layers that are ill, and the health: the same, and at the same reports."""
    reports = troubled(seed)
    noted = [
        (event("recompilation", "warning", each.step, layer=None),) if each.step % 70 == 9 else () for each in reports
    ]
    alone, together = (Judge(run_info(), default_detectors(), Guard(strict=True)) for _ in range(2))

    one_by_one = list(map(alone.judge, reports, noted))
    batched = in_batches(together, reports, noted, seed)

    assert batched == one_by_one
    kinds = {event.kind for verdict in batched for event in verdict.events}
    assert {"recompilation", "exploding_gradient", "nonfinite_loss", "dead_layer"} <= kinds
    assert sum(verdict.health is not None for verdict in batched) > 4


def test_the_loop_can_have_the_interpreter_between_two_detectors():
    """A batch is more than the worker may do at one stretch."""
    seen: list[int] = []
    detectors = [Failing(), Failing()]
    judge = Judge(run_info(), detectors, Guard(), lambda: seen.append(sum(len(each.steps) for each in detectors)))
    at_once(judge, [step_report(step) for step in (0, 1, 3)], [()] * 3)

    assert seen == [0, 3]


class Failing:
    """A detector of somebody else, which fails at every third report."""

    name = "failing"

    def __init__(self) -> None:
        self.steps: list[int] = []

    def see(self, report):
        """Tell of each report, one by one."""
        if report.step % 3 == 2:
            raise ValueError(report.step)
        self.steps.append(report.step)
        yield event("custom", "info", report.step)


def test_a_detector_that_fails_loses_its_report_only():
    """The other reports of the batch are seen, until it has failed too often; the other detectors see them all."""
    failing, sound, guard = Failing(), Failing(), Guard(limit=3, strict=False)
    sound.name = "sound"
    sound.see = lambda report: [event("custom", "info", report.step)]
    judge = Judge(run_info(), [failing, sound], guard)

    verdicts = at_once(judge, [step_report(step) for step in range(12)], [()] * 12)

    assert failing.steps == [0, 1, 3, 4, 6, 7]
    assert guard.faults()["detector.failing"] == 3
    assert [len(verdict.events) for verdict in verdicts] == [2, 2, 1, 2, 2, 1, 2, 2, 1, 1, 1, 1]
