"""Laws of the guard: our faults never reach the loop, are counted, told once, and end a part that keeps failing."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from types import TracebackType

import pytest

from loopscope.guard import Guard, Site


def _fail(site: Site, fault: BaseException | None = None) -> None:
    with site:
        raise fault or RuntimeError("ours")


def _fail_times(site: Site, num_faults: int) -> None:
    for _ in range(num_faults):
        _fail(site)


@pytest.fixture
def failing_handler() -> Iterator[None]:
    """Attach a handler of the user's that raises."""

    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    handler = Failing()
    logging.getLogger("loopscope").addHandler(handler)
    yield
    logging.getLogger("loopscope").removeHandler(handler)


@pytest.mark.parametrize("fault", [RuntimeError("x"), ValueError(), AssertionError(), MemoryError(), StopIteration()])
def test_faults_are_swallowed(fault: Exception) -> None:
    """No exception of ours leaves a site."""
    guard = Guard()

    _fail(guard.at("probe"), fault)

    assert guard.faults() == {"probe": 1}


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("strict", [False, True])
def test_requests_to_stop_pass(fault: type[BaseException], strict: bool) -> None:
    """What is no Exception is meant for the user's program: it passes and is no fault."""
    guard = Guard(strict=strict)

    with pytest.raises(fault):
        _fail(guard.at("probe"), fault())

    assert guard.faults() == {"probe": 0}


def test_code_after_a_fault_is_left_out_and_the_loop_goes_on() -> None:
    """The block ends at its fault; what follows the block runs."""
    seen = []

    with Guard().at("probe"):
        seen.append("before")
        raise RuntimeError("ours")
    seen.append("after")

    assert seen == ["before", "after"]


def test_block_without_a_fault_is_left_alone() -> None:
    """A site costs nothing but its call where nothing fails."""
    guard = Guard()

    with guard.at("probe"):
        pass

    assert guard.faults() == {"probe": 0}


def test_faults_are_counted_by_part() -> None:
    """Each part has its own count, and a part without faults is there with 0."""
    guard = Guard()
    guard.at("syncs")
    _fail(guard.at("gradients"))
    _fail(guard.at("gradients"))

    assert guard.faults() == {"syncs": 0, "gradients": 2}


def test_site_of_a_name_is_one() -> None:
    """A name gives the same site each time."""
    guard = Guard()

    assert guard.at("probe") is guard.at("probe")


def test_site_of_a_name_is_one_for_all_threads() -> None:
    """Threads that ask at once get the same site."""
    guard, start, sites = Guard(), threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        sites.append(guard.at("probe"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(sites)) == 1


def test_guards_share_nothing() -> None:
    """Two agents have their own counts."""
    one, other = Guard(), Guard()
    _fail(one.at("probe"))

    assert other.faults() == {}


def test_first_fault_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the part, the fault and where it came from."""
    _fail(Guard().at("gradients"))

    (record,) = caplog.records
    assert record.name == "loopscope"
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "loopscope: fault in gradients, training goes on: RuntimeError('ours')"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[2], TracebackType)


def test_fault_is_logged_once_a_site(caplog: pytest.LogCaptureFixture) -> None:
    """A part that fails each step does not flood the log; another part has its own first line."""
    guard = Guard(limit=100)
    _fail_times(guard.at("gradients"), 50)
    _fail(guard.at("syncs"))

    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == ["gradients", "syncs"]


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_part_is_switched_off_at_the_limit(limit: int, caplog: pytest.LogCaptureFixture) -> None:
    """At the limit, not before, a part is off for good, and the log says so once."""
    guard = Guard(limit=limit)
    site = guard.at("gradients")
    _fail_times(site, limit - 1)
    assert site.is_enabled
    assert guard.disabled() == ()

    _fail_times(site, 3)

    assert not site.is_enabled
    assert guard.disabled() == ("gradients",)
    assert sum("switched off" in record.getMessage() for record in caplog.records) == 1


def test_part_that_is_off_still_swallows() -> None:
    """A caller that does not ask `is_enabled` is as safe as before, and its faults count on."""
    guard = Guard(limit=1)
    _fail_times(guard.at("probe"), 3)

    assert guard.faults() == {"probe": 3}


def test_one_part_switched_off_leaves_the_others_on() -> None:
    """The limit is each part's own."""
    guard = Guard(limit=2)
    _fail_times(guard.at("gradients"), 2)
    _fail(guard.at("syncs"))

    assert guard.disabled() == ("gradients",)


def test_strict_raises_and_counts() -> None:
    """With `strict` the boundary hides no bug of ours, and counts it all the same."""
    guard = Guard(strict=True)

    with pytest.raises(RuntimeError, match="ours"):
        _fail(guard.at("probe"))

    assert guard.faults() == {"probe": 1}


@pytest.mark.usefixtures("failing_handler")
def test_logging_that_fails_reaches_nobody() -> None:
    """A log handler of the user's that raises neither breaks the loop nor keeps the part from being switched off."""
    guard = Guard(limit=1)

    _fail(guard.at("probe"))

    assert guard.disabled() == ("probe",)


def test_fault_that_cannot_be_written_reaches_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """An exception whose repr raises is swallowed like any other."""

    class UnspeakableError(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    guard = Guard()

    _fail(guard.at("probe"), UnspeakableError())

    assert guard.faults() == {"probe": 1}
