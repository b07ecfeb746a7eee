"""Runs made up at random: norms and losses of many kinds, with what goes wrong in all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
from tests.detecting import noise, reports_of

from loopscope.records import StepReport

__all__ = ["wild_losses", "wild_norms", "wild_run"]


def wild_norms(seed: int) -> np.ndarray:
    """Return norms [N, 3] that drift, jump, vanish and are not there."""
    draw = np.random.default_rng(seed)
    num_steps = int(draw.integers(40, 900))
    norms = noise(num_steps, sigma=float(draw.choice([0.05, 0.3, 1.0, 3.0])), seed=seed)
    norms *= np.exp(np.cumsum(draw.normal(0, draw.choice([0.0, 0.05, 0.3]), norms.shape), axis=0))
    for _ in range(3):
        begin, column = draw.integers(num_steps), draw.integers(3)
        norms[begin : begin + draw.choice([1, 2, 6, 40]), column] *= 10 ** draw.uniform(0.5, 6)
    norms[draw.random(num_steps) < draw.choice([0.0, 0.2]), draw.integers(3)] = np.nan
    norms[draw.integers(num_steps) :, draw.integers(3)] *= draw.choice([0.0, 1.0])
    return norms


def wild_losses(seed: int) -> np.ndarray:
    """Return losses [N] of many kinds, with spikes and rises."""
    draw = np.random.default_rng(seed)
    steps = np.arange(int(draw.integers(40, 900)))
    kinds = [
        2.0 * np.exp(-steps / 300) + 0.01 * draw.random(len(steps)),
        np.exp(draw.normal(0, 1, len(steps))),
        draw.normal(0, 1, len(steps)),
        np.full(len(steps), 0.7),
    ]
    values = kinds[seed % len(kinds)]
    for _ in range(3):
        begin = draw.integers(len(steps))
        values[begin : begin + draw.choice([1, 2, 6, 40])] *= 10 ** draw.uniform(0.2, 4)
    values[draw.integers(len(steps)) :] -= draw.choice([0.0, 1.0])
    return values


def wild_run(seed: int) -> list[StepReport]:
    """Return reports with norms, losses and durations; in every third run a second optimizer begins in the middle."""
    draw = np.random.default_rng(seed)
    reports = []
    for report, loss in zip(reports_of(wild_norms(seed)), wild_losses(seed), strict=False):
        seconds = 0.03 * float(np.exp(draw.normal(0, 0.7))) * (30 if draw.random() < 0.01 else 1)
        first = dataclasses.replace(report, loss=float(loss), duration_seconds=seconds)
        reports.append(first)
        if seed % 3 == 2 and report.step > 70:
            reports.append(dataclasses.replace(first, optimizer="critic", loss=1.0 + 0.1 * draw.random()))
    return reports
