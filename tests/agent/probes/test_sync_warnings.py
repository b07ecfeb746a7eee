"""Laws of CUDA's sync warnings, with a stand-in for CUDA: kinds, lines, and the user's filters and mode untouched."""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.loops import batch, network, watch
from tests.syncing import StandIn, stand_in, waiting

from loopscope.sites import site_of

_TEXT = "called a synchronizing CUDA operation"
_HERE = site_of(__file__, 0).rpartition(":")[0]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in, in the place of torch.cuda's functions."""
    return stand_in(monkeypatch)


@pytest.fixture
def x(device: StandIn) -> Any:
    """A tensor that waits wherever it can, from a file that is PyTorch's by its name."""
    return waiting(device)


@pytest.fixture(autouse=True)
def _shown() -> Iterator[None]:
    """Warnings are shown, not raised, and what is shown is put back."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def _marked(name: str) -> Counter[tuple[str, str]]:
    """Kinds and sites of the marks in a function of this file."""
    code = globals()[name].__code__
    last = max(line for _, _, line in code.co_lines() if line is not None)
    with open(__file__) as file:  # noqa: PTH123 - of this very file
        lines = list(enumerate(file, 1))[code.co_firstlineno : last + 1]
    return Counter(
        (kind, f"{_HERE}:{number}")
        for number, line in lines
        for mark in re.findall(r"# -> (.+)$", line)
        for kind in mark.split(", ")
    )


def _program(torch_: Any, x: Any, y: Any) -> None:
    mask = object()
    x[mask]  # -> mask
    x[mask] = y  # -> mask
    x[mask] += 1  # -> mask, operator, mask
    x.unique()  # -> unique
    z = x.nonzero()  # -> nonzero
    z = x.to("cuda")  # -> copy
    z = x.masked_select(  # -> masked_select
        y,
    )
    print(x.topk(3), end="", file=sys.stderr) if x else None  # -> operator
    z.copy_(x[mask])  # -> mask, copy
    [x.unique() for _ in range(2)]  # -> unique, unique
    list(map(lambda index: x[index], [1]))  # noqa: C417 - the line of the lambda  # -> mask
    x.cuda().type("float")  # -> copy, copy


def _counts(watched: Any) -> Counter[tuple[str, str]]:
    assert watched.agent.flush(10)
    report = watched.memory.latest_activity
    found = {} if report is None else report.counters.get("loopscope.device.syncs", {})
    return Counter({(kind, site): int(value) for (site, kind), value in found.items()})


def test_kinds_are_what_the_line_says(device: StandIn, x: Any) -> None:
    """CUDA does not name the operator; the user's expression does, also over several lines and nested."""
    with watch(network()) as watched:
        assert device.mode == 1
        _program(torch, x, x)
        counts = _counts(watched)

    assert counts == _marked("_program")
    assert watched.agent.internal_errors == {}


def test_code_without_source_is_told_by_its_instructions(x: Any) -> None:
    """In exec'd code indexing is a mask, and the rest an operator."""
    code = compile("x[1]\nx.unique()\n", "<generated>", "exec")
    with watch(network()) as watched:
        exec(code, {"x": x})

        assert _counts(watched) == Counter({("mask", "<generated>:1"): 1, ("operator", "<generated>:2"): 1})


def test_the_mode_is_on_for_sampled_steps_only(device: StandIn, x: Any) -> None:
    """On from attach for the first step, off after it, on again every 20th; off after detach."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seen = []
    with watch(model, optimizer):
        for _ in range(45):
            seen.append(device.mode)
            model(batch()).square().mean().backward()
            optimizer.step()

    assert [index for index, mode in enumerate(seen) if mode] == [0, 20, 40]
    assert device.mode == 0


def test_the_mode_is_off_after_an_exception(device: StandIn) -> None:
    """A loop that raises leaves it as it was."""
    with pytest.raises(KeyboardInterrupt), watch(network()):
        raise KeyboardInterrupt

    assert device.mode == 0


@pytest.mark.parametrize("mode", ["warn", "error"])
def test_a_mode_of_the_users_is_left_alone(device: StandIn, x: Any, mode: str) -> None:
    """It is neither changed nor restored to anything; in "error" what raises raises."""
    with pytest.warns(UserWarning, match="prototype"):
        device.set_sync_debug_mode(mode)
    with watch(network()) as watched, warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        for _ in range(3):
            try:
                x.unique()
            except RuntimeError:
                assert mode == "error"
        counts = _counts(watched)

    assert device.modes == [{"warn": 1, "error": 2}[mode]]
    assert len(shown) == (3 if mode == "warn" else 0)
    assert sum(counts.values()) in {0, 3}


def test_a_mode_that_the_user_sets_meanwhile_stays(device: StandIn) -> None:
    """Ours is taken back only where it is still the one that we have set."""
    with watch(network()), pytest.warns(UserWarning, match="prototype"):
        device.set_sync_debug_mode("error")

    assert device.mode == 2


def test_our_warnings_are_not_shown(device: StandIn, x: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What our mode brings forth, its own warning of being a prototype included, the user never sees."""
    with watch(network()):
        x.unique()

    assert _TEXT not in capsys.readouterr().err


@pytest.mark.parametrize("action", ["default", "once", "always", "ignore", "module"])
def test_warnings_of_the_users_are_shown_as_often(x: Any, action: Any) -> None:
    """Under each of Python's actions, with the agent coming and going in between."""

    def warn() -> None:
        for _ in range(3):
            warnings.warn("of the user", stacklevel=1)

    numbers = []
    for is_attached in (False, True):
        globals().pop("__warningregistry__", None)
        with warnings.catch_warnings(record=True) as shown:
            warnings.resetwarnings()
            warnings.simplefilter(action)
            warn()
            agent = watch(network()) if is_attached else None
            if agent is not None:
                agent.__enter__()
                x.unique()
            warn()
            if agent is not None:
                agent.__exit__(None, None, None)
            warn()
        numbers.append(len([entry for entry in shown if "of the user" in str(entry.message)]))

    assert numbers[1] == numbers[0]


def test_errors_of_the_users_filters_stay_errors(x: Any) -> None:
    """With the filter "error" the user's warnings raise; ours do not get into the loop."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with watch(network()) as watched:
            x.unique()
            with pytest.raises(UserWarning, match="of the user"):
                warnings.warn("of the user", stacklevel=1)

            assert sum(_counts(watched).values()) == 1


def test_filters_and_functions_are_restored(device: StandIn) -> None:
    """The list of filters and showwarning are what they were, also where the user has added a filter meanwhile."""
    before, show = list(warnings.filters), warnings.showwarning
    with watch(network()):
        warnings.filterwarnings("ignore", message="added meanwhile")

    assert warnings.filters[1:] == before
    assert warnings.showwarning is show


@pytest.fixture
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_deterministic")
def test_operators_without_determinism_are_events() -> None:
    """Operator and line are told, the user's warning is shown as ever, and we toggle nothing."""
    states = []
    target = torch.zeros(4)
    with warnings.catch_warnings(record=True) as shown, watch(network()) as watched:
        target.put_(torch.tensor([1, 1]), torch.ones(2))
        states.append(torch.is_deterministic_algorithms_warn_only_enabled())
        assert watched.agent.flush(10)
    (event,) = [event for event in watched.memory.events if event.kind == "nondeterministic_op"]
    line = test_operators_without_determinism_are_events.__code__.co_firstlineno + 6

    assert (event.severity, event.site) == ("warning", f"{_HERE}:{line}")
    assert "put_" in str(event.attributes["operator"])
    assert watched.memory.latest_activity.counters["loopscope.nondeterministic_ops"] == {(f"{_HERE}:{line}",): 1}
    assert states == [True]
    assert ["does not have a deterministic implementation" in str(entry.message) for entry in shown] == [True]


def test_nothing_is_heard_where_nobody_asked() -> None:
    """Without the user's setting we do not listen, and showwarning is the user's own."""
    before = warnings.showwarning
    with watch(network()) as watched:
        assert warnings.showwarning is before
        torch.zeros(4).put_(torch.tensor([1, 1]), torch.ones(2))

    assert watched.memory.events == ()
