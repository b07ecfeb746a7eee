"""Laws of the simulation as a dispatch mode: what PyTorch checks by itself, it checks under it as well."""

from __future__ import annotations

import pytest
import torch
from tests.loops import batch, network, watch
from torch._higher_order_ops.cond import cond


def test_foreach_operators_count_versions() -> None:
    """An optimizer step between two backwards raises PyTorch's own error under the simulation, foreach or not."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=True)
    with watch(model, optimizer, sync_device="cpu", inplace_armed_steps=0):
        loss = model(batch()).square().mean()
        loss.backward(retain_graph=True)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_higher_order_operators_run() -> None:
    """Eager control flow operators run as they do bare."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, sync_device="cpu", inplace_armed_steps=0):
        result = cond(torch.tensor(True), lambda x: x + 1, lambda x: x - 1, (torch.ones(2),))
    assert result.tolist() == [2.0, 2.0]
