"""What a Ctrl-C or a new optimizer leaves behind must not reach the steps after it."""

from __future__ import annotations

import gc

import pytest
from tests.loops import batch, network, watch
from torch.optim import SGD


def test_an_interrupt_at_the_begin_of_a_backward_is_forgotten(monkeypatch):
    """The end of that backward never comes; the steps after it are steps again, and nothing piles up."""
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        model(batch()).sum().backward()
        optimizer.step()

    with watch(model, optimizer) as watched:
        step()
        loop = watched.agent._loop
        began = loop.backward_began

        def interrupted(*arguments):
            began(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(loop, "backward_began", interrupted)
            with pytest.raises(KeyboardInterrupt):
                step()
        for _ in range(20):
            step()
        assert [report.step for report in watched.reports] == list(range(21))
        assert not loop._in_backward.has_steps


def test_epochs_by_steps_go_on_with_a_new_optimizer():
    """`steps_per_epoch` counts the steps of whatever optimizer is there."""
    model = network()
    with watch(model, steps_per_epoch=5) as watched:
        for _ in range(2):
            optimizer = SGD(model.parameters(), lr=0.1)
            for _ in range(10):
                optimizer.zero_grad()
                model(batch()).sum().backward()
                optimizer.step()
            del optimizer
            gc.collect()
        watched.agent.detach()
        epochs = [(epoch.epoch, epoch.num_steps) for epoch in watched.memory.epochs if epoch.kind == "epoch"]
    assert epochs == [(0, 5), (1, 5), (2, 5), (3, 5)]
