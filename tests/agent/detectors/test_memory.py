"""Laws of the memory detector: what grows with every step is told once, and what fills, jumps or wavers is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from tests.builders import epoch_report, step_report
from tests.detecting import see
from tests.loops import watch
from torch import nn
from torch.optim import SGD

from loopscope.detectors.memory import MemoryCreep, MemoryCreepRule
from loopscope.records import Event

MIB = 2**20
NOISE = np.random.default_rng(7).normal(0.0, 1.0, 100_000) * MIB


def judge(sizes: Iterable[float], rule: MemoryCreepRule | None = None) -> list[Event]:
    """Return what is told of these sizes in bytes, one a step."""
    base = step_report()
    reports = (dataclasses.replace(base, step=step, memory_bytes=int(size)) for step, size in enumerate(sizes))
    return see(MemoryCreep(rule or MemoryCreepRule()), reports)


def run(shape: Callable[[np.ndarray], np.ndarray], num_steps: int) -> list[Event]:
    """Return what is told of a curve over the steps, in MiB."""
    return judge(500 * MIB + shape(np.arange(num_steps)) * MIB)


@pytest.mark.parametrize("num_steps", [100, 1_000, 100_000])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_linear_growth_is_told_once(num_steps, noise):
    """Memory that grows by the same with every step, with a little noise, is one event, with its rate."""
    a_step = 400 / num_steps

    (event,) = judge(500 * MIB + np.arange(num_steps) * a_step * MIB + noise * NOISE[:num_steps] * a_step)

    assert (event.kind, event.severity) == ("memory_creep", "warning")
    assert event.value == pytest.approx(a_step * MIB, rel=0.1)
    assert event.step < 0.6 * num_steps + 50


@pytest.mark.parametrize("num_steps", [200, 2_000, 50_000])
@pytest.mark.parametrize(
    "shape",
    [
        lambda steps: 0 * steps,
        lambda steps: NOISE[: len(steps)] / MIB,
        lambda steps: 900 * (steps > len(steps) / 2),
        lambda steps: 300 * np.floor(4 * steps / len(steps)),
        lambda steps: np.minimum(steps, 20) * 20.0,
        lambda steps: 300 * np.sqrt(steps / len(steps)),
        lambda steps: 300 * np.log1p(steps),
        lambda steps: 900 * (1 - np.exp(-steps / 8)),
        lambda steps: steps % 16 * 20.0,
        lambda steps: 31.0 * steps / len(steps),
        lambda steps: -400.0 * steps / len(steps),
        lambda steps: 100 * np.sin(steps / 30),
    ],
    ids=[
        "flat", "noise", "one stair", "four stairs", "plateau", "root", "logarithm", "saturating", "sawtooth",
        "little", "falling", "waves",
    ],
)  # fmt: skip
def test_what_is_no_leak_is_silent(shape, num_steps):
    """Stairs, plateaus, ramps that slow down, sawteeth and noise are what healthy processes do."""
    assert run(shape, num_steps) == []


def test_reports_without_memory_and_epochs_are_left_out():
    """Memory is read ten times a second: the reports between say nothing."""
    reports = [step_report(step, memory_bytes=step * MIB if step % 10 == 0 else None) for step in range(1_000)]

    assert len(see(MemoryCreep(MemoryCreepRule()), reports)) == 1
    assert list(MemoryCreep(MemoryCreepRule()).see(epoch_report())) == []


def test_optimizers_of_different_pace_are_one_process():
    """Steps of several optimizers are counted together: a leak shows although their numbers differ."""
    reports = []
    for number in range(1_000):
        is_slow = number % 6 == 5
        step, name = (number // 6, "generator") if is_slow else (number - number // 6, "critic")
        reports.append(step_report(step, optimizer=name, memory_bytes=number * MIB))

    assert len(see(MemoryCreep(MemoryCreepRule()), reports)) == 1


def test_it_closes_when_the_growth_ends():
    """After a leak has ended the anomaly closes, and a second leak is told again."""
    detector = MemoryCreep(MemoryCreepRule())
    growth, rest = np.arange(200) * 4.0, np.full(3_000, 800.0)
    sizes = np.concatenate([growth, rest])
    for step, size in enumerate(sizes):
        detector.see(step_report(step, memory_bytes=int(size * MIB)))

    assert detector.incidents.anomalies() == ()


def test_memory_of_its_own_is_bounded():
    """However long the run, few looks are kept, and they span all of it."""
    detector, base = MemoryCreep(MemoryCreepRule()), step_report()
    for step in range(100_000):
        detector.see(dataclasses.replace(base, step=step, memory_bytes=MIB))
        assert len(detector._looks) <= 48

    assert detector._looks[0][1] < 10_000
    assert detector._looks[-1][1] > 90_000


def train(keep: Callable[[torch.Tensor, torch.Tensor], object], num_looks: int) -> list[Event]:
    """Train until memory was read so often or is told of, validating with a graph on each step; return the events."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64))
    optimizer, matrix = SGD(model.parameters(), 1e-3), torch.randn(800, 800)
    told: list[Event] = []
    with watch(model, optimizer, inplace_armed_steps=0) as watched:
        while not told and sum(report.memory_bytes is not None for report in watched.memory.steps) < num_looks:
            matrix @ matrix  # takes some time, and no memory that is kept
            model(torch.randn(500, 64)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            outputs = model(torch.randn(1_000, 64))
            keep(outputs.square().mean(), outputs)
            told = [event for event in watched.agent.events if event.kind == "memory_creep"]
    return told


@pytest.mark.parametrize("what", ["losses", "outputs"])
def test_a_real_leak_is_told(what):
    """Losses or outputs that are kept with their graphs grow by some MiB a step."""
    kept = []

    (event,) = train(lambda loss, outputs: kept.append({"losses": loss, "outputs": outputs}[what]), 100)

    assert event.value > MIB


def test_a_real_healthy_loop_is_silent():
    """The same loop that keeps numbers only."""
    kept = []

    assert train(lambda loss, _: kept.append(loss.item()), 50) == []
