"""Laws of epochs: which passes are one, when it ends, and that its statistics cover all its steps."""

from __future__ import annotations

import gc
import itertools

import pytest
from tests.loops import batch, network, samples, watch
from tests.waiting import wait_until
from torch.optim import SGD
from torch.utils.data import DataLoader, IterableDataset

import loopscope
from loopscope_exporters.memory import MemoryExporter

NUM_SAMPLES = 20


class Stream(IterableDataset):
    """Samples without a length."""

    def __iter__(self):
        """Yield them."""
        return iter(samples(NUM_SAMPLES))


@pytest.fixture
def loop():
    """A training step, and the agent that watches it; windows come only where a test asks for them."""
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


def spans(watched, kind="epoch"):
    """Return number, first and last step of each epoch or window."""
    assert watched.agent.flush(10)
    return [(e.epoch, e.first_step, e.last_step) for e in watched.memory.epochs if e.kind == kind]


def loader(**settings):
    """Return a loader with 5 batches, the last as large as the others."""
    return DataLoader(settings.pop("data", samples(NUM_SAMPLES)), batch_size=4, **settings)


@pytest.mark.parametrize(
    "make",
    [
        loader,
        lambda: loader(num_workers=2),
        lambda: loader(num_workers=2, persistent_workers=True),
        lambda: loader(data=Stream()),
    ],
    ids=["no workers", "two workers", "persistent workers", "iterable data set"],
)
def test_pass_with_steps_is_an_epoch(loop, make):
    """Each pass of a DataLoader in which steps were made is an epoch, however the loader gets its batches."""
    step, open_watch = loop
    batches = make()

    with open_watch() as watched:
        for _ in range(2):
            for inputs in batches:
                step(inputs)

        assert spans(watched) == [(0, 0, 4), (1, 5, 9)]
        assert [report.epoch for report in watched.reports] == [0] * 5 + [1] * 5


def test_epoch_is_reported_when_its_pass_ends(loop):
    """The report of an epoch does not wait for the next epoch or for detach."""
    step, open_watch = loop

    with open_watch() as watched:
        for inputs in loader():
            step(inputs)

        assert spans(watched) == [(0, 0, 4)]
        assert [report.epoch for report in watched.agent.epochs] == [0]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_validation_passes_are_no_epochs(loop, num_workers):
    """Passes without steps, before, after and within a training pass, are no epochs and end none."""
    step, open_watch = loop
    validation = loader(num_workers=num_workers)

    with open_watch() as watched:
        list(validation)
        for _ in range(2):
            for index, inputs in enumerate(loader()):
                step(inputs)
                if index == 2:
                    list(validation)
            list(validation)

        assert spans(watched) == [(0, 0, 4), (1, 5, 9)]


@pytest.mark.parametrize("settings", [{}, {"num_workers": 1, "persistent_workers": True}], ids=["new", "persistent"])
def test_abandoned_pass_is_an_epoch(loop, settings):
    """A pass that the loop breaks off ends with the next one, or at detach."""
    step, open_watch = loop
    batches = loader(**settings)

    with open_watch() as watched:
        for _ in range(3):
            for inputs in itertools.islice(batches, 2):
                step(inputs)
            gc.collect()

        assert spans(watched) == [(0, 0, 1), (1, 2, 3)]

    assert spans_after(watched) == [(0, 0, 1), (1, 2, 3), (2, 4, 5)]


def spans_after(watched):
    """Return the epochs of a detached agent."""
    return [(e.epoch, e.first_step, e.last_step) for e in watched.memory.epochs if e.kind == "epoch"]


def test_two_loaders_a_step_make_one_epoch_a_pass(loop):
    """A loop over the pairs of two loaders has one epoch a round, not two."""
    step, open_watch = loop

    with open_watch() as watched:
        for _ in range(3):
            for labelled, _ in zip(loader(), loader(), strict=False):
                step(labelled)

    assert spans_after(watched) == [(0, 0, 4), (1, 5, 9), (2, 10, 14)]


def test_iterator_kept_in_a_variable_ends_with_its_last_batch(loop):
    """A loop by steps that renews its iterator when it is exhausted has an epoch for each of them."""
    step, open_watch = loop
    batches = loader()

    with open_watch() as watched:
        iterator = iter(batches)
        for _ in range(12):
            inputs = next(iterator, None)
            if inputs is None:
                iterator = iter(batches)
                inputs = next(iterator)
            step(inputs)

    assert spans_after(watched) == [(0, 0, 4), (1, 5, 9), (2, 10, 11)]


def test_partial_epoch_is_reported_at_detach(loop):
    """What was under way at detach is reported, once, and not as a window as well."""
    step, open_watch = loop

    with open_watch() as watched:
        for index, inputs in enumerate(loader()):
            step(inputs)
            if index == 2:
                break

    assert [(e.kind, e.epoch, e.num_steps) for e in watched.memory.epochs] == [("epoch", 0, 3)]


def test_windows_without_a_loader(loop):
    """Without epochs there is a report every `window_steps` steps, and one of the rest at detach."""
    step, open_watch = loop

    with open_watch(window_steps=4) as watched:
        for seed in range(10):
            step(batch(seed))

    assert [(e.kind, e.window, e.first_step, e.last_step) for e in watched.memory.epochs] == [
        ("window", 0, 0, 3),
        ("window", 1, 4, 7),
        ("window", 2, 8, 9),
    ]


def test_long_epochs_report_windows_as_well(loop):
    """A pass longer than `window_steps` has windows, numbered anew in each epoch, and the epoch itself."""
    step, open_watch = loop

    with open_watch(window_steps=2) as watched:
        for _ in range(2):
            for inputs in loader():
                step(inputs)

    assert spans_after(watched) == [(0, 0, 4), (1, 5, 9)]
    windows = [(e.epoch, e.window, e.first_step, e.last_step) for e in watched.memory.epochs if e.kind == "window"]
    assert windows == [(0, 0, 0, 1), (0, 1, 2, 3), (1, 0, 5, 6), (1, 1, 7, 8)]


@pytest.mark.parametrize("has_loader", [False, True])
def test_steps_per_epoch_ends_epochs(loop, has_loader):
    """`steps_per_epoch` steps are an epoch, whatever passes there are."""
    step, open_watch = loop
    batches = loader() if has_loader else [batch(seed) for seed in range(5)]

    with open_watch(steps_per_epoch=4, initial_epoch=7) as watched:
        for _ in range(2):
            for inputs in batches:
                step(inputs)

    assert spans_after(watched) == [(7, 0, 3), (8, 4, 7), (9, 8, 9)]


@pytest.mark.parametrize("when", ["begin", "end"])
@pytest.mark.parametrize("has_loader", [False, True])
def test_epochs_marked_by_hand(loop, when, has_loader):
    """`agent.epoch()` at the begin or at the end of each epoch makes the same epochs, with a loader or without."""
    step, open_watch = loop
    batches = loader() if has_loader else [batch(seed) for seed in range(5)]

    with open_watch() as watched:
        for _ in range(3):
            if when == "begin":
                watched.agent.epoch()
            for inputs in batches:
                step(inputs)
            if when == "end":
                watched.agent.epoch()

    assert spans_after(watched) == [(0, 0, 4), (1, 5, 9), (2, 10, 14)]


def test_marks_join_passes(loop):
    """An epoch that is marked by hand may hold several passes."""
    step, open_watch = loop

    with open_watch() as watched:
        watched.agent.epoch()
        for _ in range(2):
            for _ in range(2):
                for inputs in loader():
                    step(inputs)
            watched.agent.epoch()

    assert spans_after(watched) == [(0, 0, 9), (1, 10, 19)]


def test_epoch_is_reported_where_the_agent_detaches_itself():
    """When the optimizer is gone the agent goes as well, with a report of the epoch under way."""
    model = network()
    optimizer = SGD(model.parameters(), 0.01)

    memory = MemoryExporter()
    agent = loopscope.attach(model, optimizer, port=None, exporters=memory)
    for inputs in loader():
        model(inputs).mean().backward()
        optimizer.step()
    agent.epoch()
    for inputs in loader():
        model(inputs).mean().backward()
        optimizer.step()
    del optimizer
    gc.collect()
    wait_until(lambda: not agent.is_attached)
    wait_until(lambda: len(memory.epochs) == 2)

    assert [(e.kind, e.first_step, e.last_step) for e in memory.epochs] == [("epoch", 0, 4), ("epoch", 5, 9)]


def test_steps_per_epoch_counts_one_of_several_optimizers():
    """With two optimizers an epoch of 3 steps ends with the first one's third step; the other is one step behind."""
    model = network()
    optimizers = [SGD(model[0].parameters(), lr=0.1), SGD(model[2].parameters(), lr=0.1)]
    with watch(model, optimizers, steps_per_epoch=3) as watched:
        for _ in range(6):
            model(batch()).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        watched.agent.detach()
        steps = [(epoch.optimizer, epoch.num_steps) for epoch in watched.memory.epochs if epoch.kind == "epoch"]
    assert [number for name, number in steps if name == "optimizer-0"] == [3, 3]
    assert [number for name, number in steps if name == "optimizer-1"] == [2, 3]


def test_flush_after_detach_says_that_all_is_out():
    """Detach has exported everything, and flush agrees."""
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watched:
        model(batch()).sum().backward()
        optimizer.step()
        watched.agent.detach()
        assert watched.agent.flush(1)
        assert len(watched.memory.steps) == 1
