"""Laws of the clock: phases add up to the duration, and what is no step's time is left out. Times are made up."""

from __future__ import annotations

import itertools

import pytest
from tests.loops import network, samples, watch
from torch.optim import LBFGS, SGD
from torch.utils.data import DataLoader

from loopscope.loop.clock import Clock, Lap

SECOND = 1_000_000_000
TRAIN, VALIDATION, SECOND_LOADER = 1, 2, 3
PHASES = {"data_wait", "forward", "backward", "optimizer", "other"}


class Loop:
    """A clock and the time of a made-up loop, in seconds."""

    def __init__(self) -> None:
        self.clock, self.lap = Clock(), Lap()
        self.now = 0.0

    @property
    def now_ns(self) -> int:
        """The time of the loop."""
        return round(self.now * SECOND)

    def fetch(self, iterator: int, seconds: float, *, is_first: bool = False, num_samples: int = 4) -> None:
        """Wait for a batch."""
        requested_ns = self.now_ns
        self.clock.batch_requested(iterator, requested_ns, is_first=is_first)
        self.now += seconds
        self.clock.batch_arrived(iterator, requested_ns, self.now_ns, num_samples)

    def end_pass(self, iterator: int) -> None:
        """Ask for a batch when there is none left."""
        self.clock.batch_requested(iterator, self.now_ns, is_first=False)
        self.clock.pass_ended(iterator, self.now_ns)

    def backward(self, *, forward: float, backward: float) -> None:
        """Run forward and backward."""
        self.now += forward
        self.clock.backward_began(self.now_ns)
        self.now += backward
        self.clock.backward_ended(self.now_ns)

    def step(
        self, seconds: float, lap: Lap | None = None, *, between: float = 0.0
    ) -> tuple[float | None, dict[str, float]]:
        """Let `between` pass, then step; return duration and phases."""
        self.now += between
        begin_ns = self.clock.outside_ns(self.now_ns)
        self.now += seconds
        optimizer_ns = self.clock.outside_ns(self.now_ns) - begin_ns
        return self.clock.step_ended(lap or self.lap, optimizer_ns, self.now_ns)

    def train(self, *, is_first: bool = False) -> tuple[float | None, dict[str, float]]:
        """Take a whole step: 1 s of waiting, 2 s forward, 3 s backward, 4 s optimizer, 0.5 s of something else."""
        self.fetch(TRAIN, 1.0, is_first=is_first)
        self.backward(forward=2.0, backward=3.0)
        return self.step(4.0, between=0.5)


@pytest.fixture
def loop() -> Loop:
    """A loop that begins."""
    return Loop()


STEP = pytest.approx({"data_wait": 1.0, "forward": 2.0, "backward": 3.0, "optimizer": 4.0, "other": 0.5})


@pytest.mark.parametrize("num_before", [0, 1, 2])
def test_phases_are_what_they_say_and_add_up(loop, num_before):
    """Each phase is the time spent in it, in the first step as in later ones; `other` is the rest of the duration."""
    for index in range(num_before):
        loop.train(is_first=index == 0)

    assert loop.train(is_first=num_before == 0) == (pytest.approx(10.5), STEP)


def test_first_step_without_a_loader_has_no_duration(loop):
    """Where nothing marks the begin of the first step, its duration is not known."""
    loop.backward(forward=1.0, backward=1.0)

    assert loop.step(1.0) == (None, {})


def test_step_without_a_loader_lasts_from_the_step_before(loop):
    """Without a DataLoader a step begins where the one before ended."""
    loop.backward(forward=1.0, backward=1.0)
    loop.step(1.0)
    loop.backward(forward=2.0, backward=3.0)
    duration, phases = loop.step(4.0)

    assert duration == pytest.approx(9.0)
    assert phases == pytest.approx({"data_wait": 0.0, "forward": 2.0, "backward": 3.0, "optimizer": 4.0, "other": 0.0})


def test_micro_steps_add_up(loop):
    """The waits, forwards and backwards of all micro-steps are the step's."""
    for index in range(3):
        loop.fetch(TRAIN, 1.0, is_first=index == 0)
        loop.backward(forward=2.0, backward=3.0)
    duration, phases = loop.step(4.0)

    assert duration == pytest.approx(22.0)
    assert phases == pytest.approx({"data_wait": 3.0, "forward": 6.0, "backward": 9.0, "optimizer": 4.0, "other": 0.0})
    assert loop.lap.num_samples == 12


@pytest.mark.parametrize("validation", [VALIDATION, TRAIN], ids=["another number", "the same number again"])
def test_validation_between_epochs_is_left_out(loop, validation):
    """From an epoch's last step to the next one's first request no time counts, also where a number is used anew."""
    loop.train(is_first=True)
    loop.end_pass(TRAIN)
    loop.fetch(validation, 50.0, is_first=True)
    loop.now += 50.0
    loop.fetch(validation, 50.0)
    loop.end_pass(validation)

    assert loop.train(is_first=True) == (pytest.approx(10.5), STEP)


def test_validation_within_an_epoch_is_left_out(loop):
    """A validation pass between two steps of one pass belongs to neither."""
    loop.train(is_first=True)
    loop.fetch(VALIDATION, 50.0, is_first=True)
    loop.now += 50.0
    loop.end_pass(VALIDATION)

    assert loop.train() == (pytest.approx(10.5), STEP)


def test_validation_lends_its_batches_to_no_step(loop):
    """Where only validation has a DataLoader, its waits and samples are not those of the next step."""
    loop.backward(forward=1.0, backward=1.0)
    loop.step(1.0)
    loop.fetch(VALIDATION, 50.0, is_first=True)
    loop.end_pass(VALIDATION)
    loop.backward(forward=2.0, backward=3.0)
    _, phases = loop.step(4.0)

    assert (phases["data_wait"], phases["forward"], loop.lap.num_samples) == (0.0, pytest.approx(2.0), 0)


def test_turn_of_an_epoch_is_left_out(loop):
    """What is done between two passes (a checkpoint, say) is no step's time."""
    loop.train(is_first=True)
    loop.end_pass(TRAIN)
    loop.now += 100.0

    assert loop.train(is_first=True) == (pytest.approx(10.5), STEP)


def test_two_loaders_a_step_lose_no_time(loop):
    """A step that takes a batch of each of two loaders lasts from the step before, with both waits in it."""
    durations = []
    for index in range(3):
        loop.fetch(SECOND_LOADER, 1.0, is_first=index == 0)
        loop.fetch(TRAIN, 1.0, is_first=index == 0)
        loop.backward(forward=2.0, backward=3.0)
        durations.append(loop.step(4.0)[0])

    assert durations[1:] == pytest.approx([11.0, 11.0])


def test_each_optimizer_has_laps_of_its_own(loop):
    """An optimizer's step lasts from its own step before; the other's work in between is in the same phases."""
    critic, generator = Lap(), Lap()
    for index in range(2):
        loop.fetch(TRAIN, 1.0, is_first=index == 0)
        loop.backward(forward=2.0, backward=3.0)
        of_critic = loop.step(4.0, critic)
        loop.backward(forward=1.0, backward=1.0)
        of_generator = loop.step(1.0, generator)

    for duration, phases in (of_critic, of_generator):
        assert duration == pytest.approx(13.0)
        assert (phases["data_wait"], phases["forward"], phases["backward"]) == pytest.approx((1.0, 3.0, 4.0))
        assert sum(phases.values()) == pytest.approx(13.0)
    assert critic.num_samples == generator.num_samples == 8


def test_closure_counts_as_forward_and_backward_and_not_twice(loop):
    """The optimizer's share of a step with a closure is what lies outside of the closure's forward and backward."""
    loop.fetch(TRAIN, 1.0, is_first=True)
    begin_ns = loop.clock.outside_ns(loop.now_ns)
    loop.clock.step_began(loop.now_ns)
    for _ in range(2):
        loop.backward(forward=2.0, backward=3.0)
        loop.now += 0.5
    optimizer_ns = loop.clock.outside_ns(loop.now_ns) - begin_ns
    duration, phases = loop.clock.step_ended(loop.lap, optimizer_ns, loop.now_ns)

    assert duration == pytest.approx(12.0)
    assert sum(phases.values()) == pytest.approx(12.0)
    assert (phases["forward"], phases["backward"], phases["optimizer"]) == pytest.approx((4.5, 6.0, 0.5))


def test_clock_is_bounded(loop):
    """Iterators that come and go without a step leave nothing behind but a bounded table."""
    for iterator in range(10_000):
        loop.fetch(iterator, 0.1, is_first=True)

    assert all(len(value) <= 64 for value in vars(loop.clock).values() if isinstance(value, dict))


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1), lambda p: LBFGS(p, 0.1, max_iter=3)], ids=["SGD", "LBFGS"])
def test_phases_of_a_live_loop_add_up(make):
    """In a live loop, with a closure or without, no phase is negative and all of them make up the duration."""
    model = network()
    optimizer = make(model.parameters())

    with watch(model, optimizer) as watched:
        for inputs in itertools.chain(*[DataLoader(samples(12), batch_size=4)] * 2):

            def closure(inputs=inputs):
                optimizer.zero_grad()
                loss = model(inputs).square().mean()
                loss.backward()
                return loss

            if isinstance(optimizer, LBFGS):
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()

        for report in watched.reports:
            assert set(report.phases) == PHASES
            assert min(report.phases.values()) >= 0
            assert sum(report.phases.values()) == pytest.approx(report.duration_seconds, rel=1e-9)
            assert report.phases["backward"] > 0
