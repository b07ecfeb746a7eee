"""Loops that fetch the next batch before they use the current one, as accelerate does."""

from __future__ import annotations

import pytest
import torch
from tests.loops import network, watch
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)


@pytest.fixture(name="trained")
def _trained():
    """Two passes of 4 batches of 16, 16, 16 and 7 samples, fetched one ahead."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    width = next(model.parameters()).shape[1]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(55, width)), batch_size=16)
    with watch(model, optimizer) as watched:
        for _ in range(2):
            iterator = iter(loader)
            following = next(iterator)
            while following is not None:
                (inputs,), following = following, next(iterator, None)
                optimizer.zero_grad()
                F.mse_loss(model(inputs), torch.zeros(())).backward()
                optimizer.step()
        assert watched.agent.flush(10)
    return watched.memory


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_an_epoch_has_all_steps_of_its_pass(trained):
    """The pass is over before its last batch is used; the step of that batch is still the epoch's."""
    epochs = [(epoch.kind, epoch.epoch, epoch.num_steps) for epoch in trained.epochs]
    assert epochs == [("epoch", 0, 4), ("epoch", 1, 4)]


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_step_has_the_samples_of_the_batch_that_it_used(trained):
    """The samples are those of the batch in the backward, not of the one fetched last."""
    assert [report.samples for report in trained.steps] == [16, 16, 16, 7] * 2
