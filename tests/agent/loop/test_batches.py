"""Laws of the batch: a step says which batch of its pass it trained on."""

from __future__ import annotations

import pytest
import torch
from tests.loops import batch, network, samples, watch
from torch.optim import SGD
from torch.utils.data import DataLoader


class Loop:
    """A loop that trains on what it is given."""

    def __init__(self) -> None:
        self.model = network()
        self.optimizer = SGD(self.model.parameters(), 0.01)

    def backward(self, inputs):
        """Add a gradient up."""
        self.model(inputs).square().mean().backward()

    def step(self):
        """Take a step."""
        self.optimizer.step()
        self.optimizer.zero_grad()


def batches(train, **settings):
    """Return the batches of the reports of a loop."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, **settings) as watched:
        train(loop)
        return [report.batch for report in watched.reports]


def loader(num_batches=4, **settings):
    """Return a loader of that many batches."""
    return DataLoader(samples(2 * num_batches), batch_size=2, **settings)


@pytest.mark.parametrize("settings", [{}, {"steps_per_epoch": 3}])
def test_batches_count_from_zero_in_each_pass(settings):
    """Each pass begins at 0, whatever an epoch is."""

    def train(loop):
        for _ in range(2):
            for inputs in loader():
                loop.backward(inputs)
                loop.step()

    assert batches(train, **settings) == [0, 1, 2, 3] * 2


def test_without_a_loader_there_is_no_batch():
    """What is not known is None, also after a pass of a loader has ended."""

    def train(loop):
        for inputs in [*loader(2), batch()]:
            loop.backward(inputs)
            loop.step()
        for inputs in loader(2):
            loop.backward(inputs)
            loop.step()
        loop.backward(batch())
        loop.step()

    assert batches(train) == [None, None, None, 0, 1, None]


def test_of_accumulated_batches_it_is_the_last():
    """A step over three batches has the index of the third."""

    def train(loop):
        for number, inputs in enumerate(loader(6)):
            loop.backward(inputs)
            if number % 3 == 2:
                loop.step()

    assert batches(train) == [2, 5]


def test_batches_that_are_fetched_ahead_are_not_used_yet():
    """A loop that fetches the next batch before it trains on the one it has tells of the latter."""

    def train(loop):
        iterator = iter(loader())
        inputs = next(iterator)
        while inputs is not None:
            following = next(iterator, None)
            loop.backward(inputs)
            loop.step()
            inputs = following

    assert batches(train) == [0, 1, 2, 3]


@pytest.mark.parametrize("when", ["before the step", "after the step"])
@pytest.mark.parametrize("settings", [{}, {"steps_per_epoch": 100}])
def test_a_validation_in_between_does_not_count(when, settings):
    """Batches of another loader, every two steps, leave the count of the training pass as it is."""

    def validate(loop):
        for inputs in loader(3):
            with torch.no_grad():
                loop.model(inputs)

    def train(loop):
        for number, inputs in enumerate(loader(6)):
            if number % 2 == 1 and when == "before the step":
                validate(loop)
            loop.backward(inputs)
            loop.step()
            if number % 2 == 1 and when == "after the step":
                validate(loop)

    assert batches(train, **settings) == [0, 1, 2, 3, 4, 5]


def test_workers_that_stay_begin_anew():
    """An iterator that is used again for the next pass counts from 0."""

    def train(loop):
        kept = loader(3, num_workers=1, persistent_workers=True)
        for _ in range(2):
            for inputs in kept:
                loop.backward(inputs)
                loop.step()

    assert batches(train) == [0, 1, 2] * 2


def test_a_pass_that_was_left_early_does_not_count_on():
    """After `break` the next pass begins at 0."""

    def train(loop):
        for _ in range(2):
            for number, inputs in enumerate(loader()):
                if number == 2:
                    break
                loop.backward(inputs)
                loop.step()

    assert batches(train) == [0, 1, 0, 1]


def test_a_step_that_is_left_out_has_its_batch():
    """A skipped step names the batch that it was skipped for."""

    def train(loop):
        for number, inputs in enumerate(loader(3)):
            loop.backward(inputs)
            if number == 1:
                loop.optimizer.zero_grad()
            else:
                loop.step()

    assert batches(train) == [0, 1, 2]
