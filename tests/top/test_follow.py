"""Following a run: what is put together from many answers is what a newcomer gets in one."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from tests.builders import epoch_report, event, gradient_sample, gradient_table, run_info, self_report, step_report
from tests.top.serving import client, free_port, serving
from tests.waiting import wait_until

from loopscope.records import Record
from loopscope.top import Failure
from loopscope.top.follow import Follower, Poller
from loopscope.top.state import State
from loopscope_exporters.live import LiveExporter
from loopscope_exporters.server import MetricsServer

LAYERS = ("encoder", "head", "late")


def step(number: int) -> Record:
    """Steps of which some are not finite, some have no gradient, and later ones a further layer."""
    layers = LAYERS if number >= 40 else LAYERS[:2]
    norms = np.full(2 * len(layers), 1.0 + number)
    bad = number % 37 == 5
    norms[0] = math.nan if bad else norms[0]
    table = gradient_table(
        norms,
        layers=layers,
        num_nonfinite=[int(bad)] + [0] * (len(norms) - 1),
        sample=gradient_sample(len(norms), len(layers)),
    )
    return step_report(
        number, loss=math.inf if bad else 1 / (1 + number), gradients=None if number % 11 == 3 else table
    )


def known(found: State | Failure) -> State:
    """The state; it must be one."""
    assert isinstance(found, State), found
    return found


def comparable(state: State) -> str:
    """All that is known, NaN included, but the clock."""
    return repr(replace(state, server_seconds=None))


@pytest.mark.parametrize("chunk", [1, 29, 700])
def test_what_came_in_parts_is_the_whole(chunk: int) -> None:
    """Of 1,400 steps, whose spans become wider twice, whatever the number of steps between two questions."""
    with serving(run_info()) as (url, exporter):
        follower = Follower(client(url).ask)
        known(follower.poll())
        for number in range(1_400 if chunk > 1 else 600):
            exporter.export(step(number))
            if number % 50 == 0:
                exporter.export(event(step=number))
            if number % 200 == 0:
                exporter.export(epoch_report(number // 200))
            if number % chunk == 0 and (chunk > 1 or number % 4 == 0):
                known(follower.poll())

        followed = known(follower.poll())

        assert comparable(followed) == comparable(known(Follower(client(url).ask).poll()))
    assert followed.history.width == (4 if chunk > 1 else 2)
    assert list(followed.history.layers) == list(LAYERS)


def test_only_the_news_are_asked_for() -> None:
    """The second question has the numbers of the first answer, and its answer one span and no event again."""
    asked = []
    with serving(run_info(), *(step(number) for number in range(9)), event(), event()) as (url, exporter):
        ask = client(url).ask

        def listen(query):
            asked.append((query, ask(query)))
            return asked[-1][1]

        follower = Follower(listen)
        known(follower.poll())
        exporter.export(event())
        state = known(follower.poll())

    (first, _), (second, news) = asked
    assert first == {}
    assert second == {"agent": "model", "width": "1", "first": "8", "event": "2", "epoch": "0"}
    assert (len(news["history"]["columns"]["loss_mean"]), len(news["events"]["entries"])) == (1, 1)
    assert len(state.events) == 3


def test_run_that_takes_the_place_is_followed() -> None:
    """While nobody answers that is said; then the other run is shown from its own first step, not joined to the old."""
    port = free_port()
    with serving(run_info(), *(step(number) for number in range(30)), event(), port=port) as (url, _):
        follower = Follower(client(url).ask)
        known(follower.poll())
    gone = follower.poll()
    with serving(run_info(run="run-2", pid=2), *(step(number) for number in range(40)), port=port):
        state = known(follower.poll())

    assert isinstance(gone, Failure)
    assert gone.kind == "gone"
    assert (state.run["run"], state.history.num_spans, state.events) == ("run-2", 40, [])


def test_agent_that_takes_the_place_is_followed() -> None:
    """Where the agent has detached and another is on the same server; but not where a certain one is wanted."""
    server = MetricsServer(port=0)
    first, second = LiveExporter(server), LiveExporter(server)
    follower = Follower(client(server.url).ask)
    wanted = Follower(client(server.url).ask, agent="first")
    first.export(run_info(agent="first"))
    before = known(follower.poll()), known(wanted.poll())
    second.export(run_info(agent="second"))

    first.close()

    assert [state.agent for state in before] == ["first", "first"]
    assert known(follower.poll()).agent == "second"
    missing = wanted.poll()
    assert isinstance(missing, Failure)
    assert missing.kind == "missing"
    second.close()


def test_first_optimizer_is_followed_once_it_steps() -> None:
    """Before the first step none is known; others can be asked for."""
    with serving(run_info()) as (url, exporter):
        follower = Follower(client(url).ask)
        assert known(follower.poll()).optimizer is None
        for name, loss in (("generator", 1.0), ("critic", 2.0)):
            exporter.export(step_report(optimizer=name, loss=loss))

        assert known(follower.poll()).step["loss"] == 1.0
        assert known(Follower(client(url).ask, optimizer="critic").poll()).step["loss"] == 2.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_fault_of_ours_is_handed_to_whoever_draws() -> None:
    """It does not die with the thread."""
    woken: list[bool] = []

    def fail(query):
        raise ZeroDivisionError

    poller = Poller(Follower(fail), 0.0, lambda: woken.append(True))
    poller.start()

    wait_until(lambda: "loopscope-top" not in {thread.name for thread in threading.enumerate()})

    (outcome,) = poller.outcomes()
    assert isinstance(outcome.fault, ZeroDivisionError)
    assert woken == [True]


def test_what_the_agent_says_of_itself_is_the_latest() -> None:
    """Records that are not collected are replaced."""
    with serving(run_info(), self_report(dropped_reports=1)) as (url, exporter):
        follower = Follower(client(url).ask)
        known(follower.poll())
        exporter.export(self_report(dropped_reports=2))

        assert known(follower.poll()).itself["dropped_reports"] == 2
