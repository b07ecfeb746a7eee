"""Laws of the replaced functions: exact restoration, foreign patches, forks, faults, threads, and one live scrape."""

from __future__ import annotations

import functools
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from tests.loops import batch, network, watch, weights
from tests.web import request
from torch.utils import _python_dispatch

import loopscope
from loopscope.catalog import MAX_SITES
from loopscope.hooks import num_patches, num_replacements, replacements
from loopscope.probes.syncs.ledger import LEDGER, Ledger
from loopscope.probes.syncs.scalars import METHODS

_SIMULATED = {"sync_device": "cpu"}
_OWNERS: tuple[Any, ...] = (
    torch.Tensor, torch.nn.functional, warnings, torch.cuda, torch.cuda.Event, torch.cuda.Stream, torch.cpu,
    torch.accelerator, torch.mps, torch.xpu,
)  # fmt: skip


def _state() -> list[Any]:
    """Whatever the probe may change, by identity."""
    owned = [{name: id(value) for name, value in vars(owner).items()} for owner in _OWNERS]
    modes = [id(_python_dispatch._get_current_dispatch_mode()), torch._C._len_torch_dispatch_stack()]
    return [*owned, [id(entry) for entry in warnings.filters], modes, num_patches(), num_replacements(), LEDGER.busy]


def _pair() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = network()
    return model, torch.optim.SGD(model.parameters(), lr=0.01)


def _step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(batch()).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = _state()
    yield
    assert _state() == before


@pytest.mark.parametrize("device", [None, "cpu"])
def test_hundred_times_leave_nothing_behind(device: str | None) -> None:
    """Attached and detached 100 times, every function, filter and mode is the very object from before."""
    pair = _pair()
    before = _state()
    for _ in range(100):
        with watch(*pair, sync_device=device):
            _step(*pair)
            assert (device is None) == (num_replacements() == 0)

        assert _state() == before


def test_an_exception_in_the_loop_leaves_nothing_behind() -> None:
    """Also in the middle of a step of the simulation."""
    before = _state()

    with pytest.raises(KeyboardInterrupt), watch(*_pair(), **_SIMULATED):
        raise KeyboardInterrupt(torch.ones(()).item())

    assert _state() == before


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_agents_leave_in_any_order(order: tuple[int, ...]) -> None:
    """Those who stay still count; the last one out restores, and no mode is left on the stack."""
    before, pairs = _state(), [_pair() for _ in range(3)]
    agents = [loopscope.attach(*pair, port=None, log_events=False, sync_device="cpu") for pair in pairs]
    for index in order:
        torch.ones(()).item()
        agents[index].flush(10)
        _step(*pairs[index])
        assert agents[index].events
        agents[index].detach()
    for pair in pairs:
        _step(*pair)

    assert _state() == before


def test_a_mode_of_the_users_on_top_of_ours_stays() -> None:
    """Who enters a mode before the detach and leaves it after it finds the stack as expected."""

    class Theirs(_python_dispatch.TorchDispatchMode):
        num_calls = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            Theirs.num_calls += 1
            return function(*args, **(kwargs or {}))

    pair = _pair()
    with Theirs():
        with watch(*pair, **_SIMULATED) as watched:
            with Theirs():
                _step(*pair)
            _step(*pair)
            assert watched.reports
        Theirs.num_calls = 0
        torch.ones(3) + 1
        assert Theirs.num_calls == 2


@pytest.mark.parametrize("name", ["item", "__bool__", "cpu", "__repr__"])
def test_foreign_patch_on_top_of_ours_survives(name: str) -> None:
    """Somebody who patched after us keeps the patch when we leave, and ours below passes through."""
    original = vars(torch.Tensor).get(name)
    agent = loopscope.attach(*_pair(), port=None, **_SIMULATED)
    below, calls = getattr(torch.Tensor, name), []

    @functools.wraps(below)
    def foreign(self: torch.Tensor, *args: Any) -> Any:
        calls.append(name)
        return below(self, *args)

    setattr(torch.Tensor, name, foreign)
    try:
        agent.detach()
        num_noted = LEDGER.num_noted
        getattr(torch.ones(()), name)()
        assert vars(torch.Tensor)[name] is foreign
        assert (calls, LEDGER.num_noted) == ([name], num_noted)
    finally:
        if original is None:
            delattr(torch.Tensor, name)
        else:
            setattr(torch.Tensor, name, original)
        replacements._replacements.clear()


def test_a_patch_from_before_is_called_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours goes on top of it, and away again."""
    calls = []

    def foreign(self: torch.Tensor) -> Any:
        calls.append("item")
        return torch._C.TensorBase.item(self)

    with monkeypatch.context() as patching:
        patching.setattr(torch.Tensor, "item", foreign)
        with watch(*_pair(), **_SIMULATED):
            torch.ones(()).item()
        assert vars(torch.Tensor)["item"] is foreign
        assert calls == ["item"]


@pytest.mark.parametrize("name", METHODS)
def test_replaced_methods_look_like_the_originals(name: str) -> None:
    """Name, documentation and result are those of torch's own."""
    original = getattr(torch.Tensor, name)
    with watch(*_pair(), **_SIMULATED):
        replaced = getattr(torch.Tensor, name)

        assert (replaced.__name__, replaced.__doc__) == (original.__name__, original.__doc__)
        assert replaced is not original


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_nothing_and_works() -> None:
    """In the child the methods are torch's own again, values are right, and the parent's counts stay its own."""
    pair, before = _pair(), torch.Tensor.item
    with watch(*pair, **_SIMULATED) as watched:
        child = os.fork()
        if child == 0:
            is_right = torch.arange(4.0)[torch.arange(4) > 2].sum().item() == 3 and LEDGER.num_noted == num_noted
            os._exit(0 if is_right and torch.Tensor.item is before else 1)
        _, status = os.waitpid(child, 0)
        _step(*pair)

        assert os.waitstatus_to_exitcode(status) == 0
        assert watched.only.syncs == ()


num_noted = 0
"""What the ledger had counted when the module was imported; the child compares."""


@pytest.fixture(autouse=True)
def _note_count() -> None:
    globals()["num_noted"] = LEDGER.num_noted


def test_a_fault_in_the_ledger_does_not_reach_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and training are as ever; the faults are counted until the part is off, and that is an event."""
    bare = _pair()
    _step(*bare)
    pair = _pair()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(Ledger, "_count", fail)
    with watch(*pair, **_SIMULATED, strict=False, fault_limit=4) as watched:
        assert [torch.ones(()).item() for _ in range(10)] == [1.0] * 10
        assert float(torch.ones(())) == 1
        assert torch.arange(3.0)[torch.arange(3) > 1].tolist() == [2.0]
        _step(*pair)
        assert watched.only.syncs == ()
        errors = watched.agent.internal_errors

    assert errors == {"probe.syncs": 4}
    assert [event.kind for event in watched.memory.events] == ["probe_disabled"]
    assert torch.equal(weights(pair[0]), weights(bare[0]))


def test_an_error_of_the_call_passes() -> None:
    """What torch raises is raised as without us, nothing is counted, and the next call is."""
    with watch(*_pair(), **_SIMULATED) as watched:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="cannot be converted to Scalar"):
                torch.ones(3).item()
        torch.ones(()).item()
        assert watched.agent.flush(10)
        counters = watched.memory.latest_activity.counters["loopscope.device.syncs"]

    assert sum(counters.values()) == 1


def test_no_call_of_many_threads_is_lost() -> None:
    """8 threads with 10,000 calls each, switched as often as Python can, count to 80,000."""
    value, interval = torch.ones(()), sys.getswitchinterval()

    def read() -> None:
        for _ in range(10_000):
            value.item()

    with watch(*_pair(), **_SIMULATED) as watched:
        threads = [threading.Thread(target=read) for _ in range(8)]
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                watched.agent.flush(1)
        finally:
            sys.setswitchinterval(interval)
            for thread in threads:
                thread.join()
        assert watched.agent.flush(10)
        counters = watched.memory.latest_activity.counters["loopscope.device.syncs"]

    assert list(counters.values()) == [80_000]


def _scrape(url: str) -> dict[tuple[str, str], float]:
    """The counter of syncs by site and kind."""
    families = text_string_to_metric_families(request(url + "/metrics").text)
    return {
        (sample.labels["site"], sample.labels["kind"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "loopscope_device_syncs_total"
    }


def test_lines_are_bounded_in_a_live_scrape(tmp_path: Path) -> None:
    """Of 200 lines 50 have series, 0 at first and then their value; `other` has the rest, and none is lost."""
    script = tmp_path / "long.py"
    script.write_text("def read(loss):\n" + "    loss.item()\n" * 200)
    names: dict[str, Any] = {}
    exec(compile(script.read_text(), str(script), "exec"), names)
    pair = _pair()
    with watch(*pair, **_SIMULATED, port=0) as watched:
        assert _scrape(watched.agent.url) == {}
        for _ in range(3):
            names["read"](torch.ones(()))
            _step(*pair)
        assert watched.agent.flush(10)
        first, second = _scrape(watched.agent.url), _scrape(watched.agent.url)
        names["read"](torch.ones(()))
        assert watched.agent.flush(10)
        third = _scrape(watched.agent.url)
        text = request(watched.agent.url + "/metrics").text

    sites = {site for site, _ in second}
    assert len(sites - {"other"}) == MAX_SITES
    assert sites == {f"{script}:{line}" for line in range(2, 2 + MAX_SITES)} | {"other"}
    assert set(first.values()) == {0}
    assert second == {key: 3 * (150 if key[0] == "other" else 1) for key in first}
    assert (sum(second.values()), sum(third.values())) == (600, 800)
    assert 'loopscope_series_dropped_total{agent="model"} 300.0' in text  # of syncs and of their seconds
    assert len([event for event in watched.memory.events if event.kind == "device_sync"]) == MAX_SITES
