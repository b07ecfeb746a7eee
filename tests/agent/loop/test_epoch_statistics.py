"""Laws of an epoch's statistics: they cover all its steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.loops import batch, network, samples, watch
from torch.optim import SGD
from torch.utils.data import DataLoader


@pytest.fixture
def loop():
    """A training step, and the agent that watches it."""
    model = network()
    optimizer = SGD(model.parameters(), 0.01)

    def step(inputs):
        optimizer.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    def open_watch(**settings):
        return watch(model, optimizer, ring_slots=1_024, **settings)

    return step, open_watch


def test_statistics_of_an_epoch_cover_all_its_steps(loop):
    """Mean, extremes and quantiles of each layer are numpy's over the norms of the epoch's steps."""
    step, open_watch = loop

    with open_watch() as watched:
        for _ in range(2):
            for inputs in DataLoader(samples(30), batch_size=1):
                step(inputs)

        reports = watched.reports
        for epoch in watched.memory.epochs:
            mine = [report for report in reports if report.epoch == epoch.epoch]
            norms_NG = np.array([report.gradients.layer_norms for report in mine])
            assert epoch.num_steps == epoch.num_reports == len(mine) == 30
            assert epoch.gradients.layers == mine[0].gradients.layers == ("0", "2")
            for name, expected_G in {
                "mean": norms_NG.mean(axis=0),
                "max": norms_NG.max(axis=0),
                "min": norms_NG.min(axis=0),
                "p50": np.quantile(norms_NG, 0.5, axis=0),
                "p95": np.quantile(norms_NG, 0.95, axis=0),
            }.items():
                np.testing.assert_allclose(getattr(epoch.gradients, name), expected_G, rtol=1e-9)
            global_norms = [report.gradients.global_norm for report in mine]
            assert epoch.global_norm["mean"] == pytest.approx(np.mean(global_norms))
            assert epoch.duration_seconds == pytest.approx(math.fsum(r.duration_seconds or 0.0 for r in mine))


def test_mean_loss_is_weighted_by_samples(loop):
    """With an uneven last batch the epoch's loss is the mean over samples, not over batches."""
    step, open_watch = loop
    losses, sizes = [], []

    with open_watch() as watched:
        for inputs in DataLoader(samples(10), batch_size=4):
            losses.append(step(inputs))
            sizes.append(len(inputs))
        assert watched.agent.flush()

    (epoch,) = watched.memory.epochs
    assert sizes == [4, 4, 2]
    assert epoch.loss == pytest.approx(np.average(losses, weights=sizes), rel=1e-6)
    assert (epoch.loss_weighting, epoch.num_samples) == ("samples", 10)


def test_mean_loss_without_samples_is_over_batches(loop):
    """Where samples cannot be seen the mean is over batches, and says so."""
    step, open_watch = loop

    with open_watch() as watched:
        losses = [step(batch(seed)) for seed in range(3)]

    (window,) = watched.memory.epochs
    assert window.loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert (window.loss_weighting, window.num_samples) == ("batches", None)
