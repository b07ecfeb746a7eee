"""Laws of the bus: order, the held step, deadlines, and a worker that is replaced. Frames are made up."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import types

import pytest
from tests.frames import step_frame
from tests.waiting import await_workers, wait_until

from loopscope.bus import Bus
from loopscope.frames import EpochMark
from loopscope.guard import Guard

dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Values:
    """A slot whose numbers arrive when the test says so."""

    def __init__(self) -> None:
        self.has_arrived = False

    def is_ready(self):
        """Whether they are here."""
        return self.has_arrived

    def read(self):
        """Return nothing."""
        return {}

    def release(self):
        """Do nothing."""


class Taker:
    """The worker's side: what it took, and what it fails of."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.faults: list[BaseException] = []
        self.gate = threading.Event()
        self.gate.set()
        self.num_ends = self.num_ticks = 0
        self.take_seconds = 0.0

    def take(self, frame):
        """Take a frame, once the gate is open; fail if there is a fault left."""
        assert self.gate.wait(30)
        if self.faults:
            raise self.faults.pop()
        begin = time.perf_counter()
        while time.perf_counter() - begin < self.take_seconds:
            pass
        self.taken.append(frame.epoch)

    def tick(self):
        """Count the turns."""
        self.num_ticks += 1

    def end(self):
        """Count the ends."""
        self.num_ends += 1


@pytest.fixture
def taker():
    """A taker with an open gate."""
    taker = Taker()
    yield taker
    taker.gate.set()


@pytest.fixture
def guard():
    """A guard that swallows."""
    return Guard(limit=10, strict=False)


@pytest.fixture
def bus(taker, guard):
    """A bus with a running worker."""
    bus = Bus(taker.take, taker.tick, guard, wake_at=4, on_end=taker.end)
    bus.start()
    yield bus
    taker.gate.set()
    bus.close(5)
    await_workers()


@contextlib.contextmanager
def _at_work(bus):
    bus.start()
    yield bus
    bus.close(5)


@pytest.fixture
def sleeps(monkeypatch):
    """What the worker sleeps, in seconds, noted as it does so."""
    slept, sleep = [], time.sleep
    monkeypatch.setattr("loopscope.breath.time", types.SimpleNamespace(**vars(time)))
    monkeypatch.setattr("loopscope.breath.time.sleep", lambda seconds: (slept.append(seconds), sleep(seconds)))
    return slept


@pytest.fixture
def hurried_threads():
    """Have threads take turns as often as can be."""
    seconds = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(seconds)


def test_frames_arrive_in_their_order(bus, taker):
    """Steps and marks are taken in the order in which they were put."""
    for number in range(50):
        bus.put(step_frame(number) if number % 5 else EpochMark(epoch=number, time_unix_seconds=time.time()))

    assert bus.flush(10)
    assert taker.taken == list(range(50))


def test_latest_step_is_held_until_the_loop_goes_on(bus, taker):
    """The latest step and the marks after it wait; the next step releases them."""
    bus.put(step_frame(0))
    bus.put(EpochMark(epoch=1, time_unix_seconds=time.time()))
    for _ in range(2):  # the first tick may be of a turn that began before
        num_ticks = taker.num_ticks
        bus.wake()
        wait_until(lambda before=num_ticks: taker.num_ticks > before)

    assert taker.taken == []
    assert bus.held is not None
    assert bus.held.epoch == 0
    bus.put(step_frame(2))
    assert bus.held.epoch == 2
    bus.wake()
    wait_until(lambda: taker.taken == [0, 1])


def test_held_step_is_taken_in_the_end(bus, taker):
    """A loop that stands still after a step does not keep the step from being reported."""
    bus.put(step_frame(0))

    wait_until(lambda: taker.taken == [0], seconds=5)
    assert bus.held is None


def test_mark_on_its_own_is_taken_in_the_end(bus, taker):
    """The end of an epoch that comes after its last step was taken does not wait for the next epoch."""
    bus.put(EpochMark(epoch=3, time_unix_seconds=time.time()))

    assert wait_until(lambda: taker.taken, seconds=5) == [3]


def test_release_of_the_held_step_keeps_the_order(bus, taker, hurried_threads):
    """The loop and the worker may release at the same moment: nothing is lost, doubled or out of order."""
    old = time.time() - 10  # due for the worker at once
    for number in range(5_000):
        frame = step_frame(number)
        frame.time_unix_seconds = old
        bus.put(frame)
        bus.put(EpochMark(epoch=number, time_unix_seconds=old))
        bus.wake()
        bus.release_held()

    assert bus.flush(30)
    assert taker.taken == [number for number in range(5_000) for _ in range(2)]


def test_worker_looks_less_often_where_nothing_comes(bus, taker):
    """An idle worker costs next to nothing; what comes then is taken within a second or so all the same."""
    wait_until(lambda: taker.num_ticks >= 2)
    num_ticks = taker.num_ticks
    time.sleep(3.0)
    num_idle_ticks = taker.num_ticks - num_ticks
    bus.put(step_frame(0))
    bus.put(step_frame(1))

    wait_until(lambda: taker.taken[:1] == [0], seconds=2)
    assert 1 <= num_idle_ticks <= 4  # fifteen of them where each comes after 0.2 s


def test_worker_takes_several_slow_steps_at_a_time(taker, guard):
    """Each awakening begins with cold caches: of steps that take long it awaits a few, a second or so at the most."""
    with _at_work(Bus(taker.take, taker.tick, guard, wake_at=1_000, on_end=taker.end)) as bus:
        for number in range(16):
            bus.put(step_frame(number))
            time.sleep(0.25)
        num_ticks, num_taken = taker.num_ticks, len(taker.taken)
        wait_until(lambda: len(taker.taken) == 16, seconds=5)

    assert num_ticks <= 7  # in four seconds
    assert num_taken >= 9


def test_worker_looks_often_where_steps_are_fast(taker, guard):
    """What is seen of a fast loop, and what is lost where its process is killed, is 0.2 s old."""
    with _at_work(Bus(taker.take, taker.tick, guard, wake_at=100_000, on_end=taker.end)) as bus:
        for number in range(300):
            bus.put(step_frame(number))
            time.sleep(0.01)
        num_ticks = taker.num_ticks

    assert num_ticks >= 6


def test_worker_does_not_sleep_over_the_begin_of_fast_steps(taker, guard):
    """After a pause in which it looked seldom it is woken once there is enough to do: rings are not long."""
    with _at_work(Bus(taker.take, taker.tick, guard, wake_at=1_000, on_end=taker.end)) as bus:
        wait_until(lambda: taker.num_ticks == 1)  # the next look of its own comes a second later
        time.sleep(0.3)
        for number in range(20):
            bus.put(step_frame(number))
            time.sleep(0.01)
        num_taken = len(taker.taken)

    assert num_taken >= 8


@pytest.mark.parametrize("slots", ["samples_taken", "logged_parts", "activations"])
def test_worker_looks_soon_where_slots_are_few(taker, guard, slots):
    """Samples and logged tensors of a device have rings of a few slots: such a step is not kept waiting for others."""
    with _at_work(Bus(taker.take, taker.tick, guard, wake_at=1_000, on_end=taker.end)) as bus:
        values = Values()
        values.has_arrived = True
        for number in range(9):
            frame = step_frame(number)
            setattr(frame, slots, (types.SimpleNamespace(values=values),))
            bus.put(frame)
            assert len(bus._frames) <= 2
            time.sleep(0.25)

    assert taker.taken == list(range(9))


def test_worker_sleeps_between_stretches_of_work(taker, guard, sleeps):
    """A batch that takes long is no single stretch: a loop of short steps has the interpreter in between."""
    taker.take_seconds = 0.002
    with _at_work(Bus(taker.take, taker.tick, guard, wake_at=1_000, on_end=taker.end)) as bus:
        for number in range(20):
            bus.put(step_frame(number))
        wait_until(lambda: len(taker.taken) >= 19)

    assert len([seconds for seconds in sleeps if seconds >= 0.002]) >= 10


def test_a_long_take_may_breathe_inside(taker, guard, sleeps):
    """What is judged and sent inside one take is cut as well: the bound holds for the work, not for frames."""

    def take(frame):
        for _ in range(4):
            begin = time.perf_counter()
            while time.perf_counter() - begin < 0.002:
                pass
            bus.breathe()
        taker.taken.append(frame.epoch)

    with _at_work(Bus(take, taker.tick, guard, wake_at=1_000, on_end=taker.end)) as bus:
        bus.put(step_frame(0))
        bus.put(step_frame(1))
        wait_until(lambda: taker.taken == [0])

    assert len(sleeps) >= 4


def test_the_first_act_is_done_without_a_sleep(taker, guard, sleeps):
    """The user's thread waits for it, in `attach`."""
    bus = Bus(taker.take, taker.tick, guard, wake_at=1_000, on_end=taker.end)

    def first():
        taker.take_seconds = 0.002
        taker.take(step_frame(0))
        bus.breathe()
        sleeps_before.extend(sleeps)
        taker.taken.append(-1)

    sleeps_before: list[float] = []
    bus.start(first, 30)
    bus.close(5)

    assert taker.taken == [0, -1]
    assert sleeps_before == []


@pytest.mark.parametrize(("wake_at", "most"), [(1_000, 1), (1, 2)], ids=["somebody waits", "it falls behind"])
def test_worker_does_not_sleep_where_it_has_no_time(taker, guard, sleeps, wake_at, most):
    """Then what is waited for, or would be dropped, comes first."""
    taker.take_seconds = 0.002
    taker.gate.clear()
    with _at_work(Bus(taker.take, taker.tick, guard, wake_at=wake_at, on_end=taker.end)) as bus:
        for number in range(20):
            bus.put(step_frame(number))
        asker = threading.Thread(target=bus.flush, args=(30,)) if wake_at > 1 else None
        if asker is not None:
            asker.start()
            wait_until(lambda: bus._num_asked > 0)
        taker.gate.set()
        wait_until(lambda: len(taker.taken) >= 18)
        num_sleeps = len(sleeps)
        if asker is not None:
            asker.join(30)

    assert num_sleeps <= most


def test_steady_frames_do_not_keep_the_tick_away(taker, guard):
    """Where frames come as fast as they are taken, what was taken is told now and then all the same."""
    taker.take_seconds = 0.002
    with _at_work(Bus(taker.take, taker.tick, guard, wake_at=4, on_end=taker.end)) as bus:
        end = time.monotonic() + 1.5
        number = 0
        while time.monotonic() < end:
            if len(bus._frames) < 20:
                bus.put(step_frame(number))
                number += 1
            time.sleep(0.0001)
        num_ticks = taker.num_ticks

    assert num_ticks >= 3


def test_flush_waits_for_the_device(bus, taker):
    """A step whose numbers are still on their way keeps those after it waiting, and flush as well."""
    values = Values()
    bus.put(step_frame(0, values))
    bus.put(step_frame(1))

    assert not bus.flush(0.2)
    assert taker.taken == []
    values.has_arrived = True
    assert bus.flush(10)
    assert taker.taken == [0, 1]


@pytest.mark.parametrize("verb", ["flush", "close"])
def test_deadlines_hold_where_the_worker_hangs(bus, taker, verb):
    """Flush and close give up after their time, and say so."""
    taker.gate.clear()
    bus.put(step_frame(0))
    start = time.monotonic()

    assert not getattr(bus, verb)(0.2)
    assert 0.15 < time.monotonic() - start < 1.5


def test_close_gives_up_on_a_device_that_never_answers(bus, taker):
    """Frames whose numbers never arrive do not keep the worker from ending at the deadline."""
    bus.put(step_frame(0, Values()))

    bus.close(0.2)
    wait_until(lambda: taker.num_ends == 1, seconds=5)
    assert taker.taken == []


def test_close_takes_what_is_left_and_ends_once(bus, taker):
    """Close takes the frames that wait, then ends the worker, whose last act comes once."""
    for number in range(3):
        bus.put(step_frame(number))

    assert bus.close(5)
    assert bus.close(5)
    assert taker.taken == [0, 1, 2]
    assert taker.num_ends == 1


def test_fault_costs_its_frame_only(bus, taker, guard):
    """A fault in the worker is counted, and the frames after it are taken."""
    taker.faults = [RuntimeError("ours")]
    for number in range(3):
        bus.put(step_frame(number))

    assert bus.flush(10)
    assert taker.taken == [1, 2]
    assert guard.faults()["worker"] == 1


@dies
@pytest.mark.parametrize("verb", ["flush", "put", "close"])
def test_worker_that_is_killed_is_replaced(bus, taker, guard, verb):
    """A worker that SystemExit ended is counted, and replaced when frames wait, at flush, or at close."""
    taker.faults = [SystemExit()]
    bus.put(step_frame(0))
    bus.flush(5)
    wait_until(lambda: guard.faults()["worker"] == 1)
    numbers = list(range(1, 9 if verb == "put" else 3))
    for number in numbers:
        bus.put(step_frame(number))
    if verb == "put":
        wait_until(lambda: len(taker.taken) >= 4)
    assert bus.close(5) if verb == "close" else bus.flush(5)
    assert taker.taken == numbers


@dies
def test_worker_that_is_killed_again_and_again_is_given_up(bus, taker, guard):
    """After a few replacements the bus stops; flush says so at once instead of waiting."""
    taker.faults = [SystemExit() for _ in range(10)]
    for number in range(10):
        bus.put(step_frame(number))
        bus.flush(2)
    start = time.monotonic()

    assert not bus.flush(5)
    assert time.monotonic() - start < 2
    assert guard.faults()["worker"] == 4


class WorkersOnly:
    """A lock that the worker has when anybody else asks for it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def acquire(self, blocking=True):
        """Give it to the worker."""
        return self._bus.is_worker()

    def release(self):
        """Do nothing."""


@pytest.mark.parametrize("verb", ["flush", "close"])
def test_what_the_worker_is_about_to_release_is_taken(bus, taker, verb):
    """Who asks while the worker is at the held step does not release what came since: the worker does."""
    bus._releasing = WorkersOnly(bus)
    bus.put(step_frame(0))

    assert getattr(bus, verb)(10)
    assert taker.taken == [0]
