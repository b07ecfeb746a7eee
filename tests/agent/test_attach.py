"""Laws of attach: what it takes, what it refuses and how clearly, and what it finds as training goes on."""

from __future__ import annotations

import copy
import gc
import io
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.waiting import wait_until
from tests.web import request
from tests.workload import mlp
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

import loopscope
from loopscope import NullAgent, SettingError, UnknownSettingError
from loopscope_exporters.memory import MemoryExporter


def _pair() -> tuple[nn.Sequential, torch.optim.Optimizer]:
    model = mlp()
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int = 1) -> None:
    for _ in range(num_steps):
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def _attach(*args: Any, **settings: Any) -> Any:
    return loopscope.attach(*args, **({"port": None, "log_events": False} | settings))


# what it refuses


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (lambda m, o: (o, m), TypeError, "model=SGD cannot be used.*order is attach"),
        (lambda m, o: (m, m), TypeError, "optimizer=Sequential cannot be used.*order is attach"),
        (lambda m, o: (m, "adam"), TypeError, "optimizer=str cannot be used"),
        (lambda m, o: (3, o), TypeError, "model=int cannot be used"),
        (lambda m, o: ([m, 3], o), TypeError, "model=int cannot be used"),
        (lambda m, o: (list(m.parameters()), o), TypeError, "model=Parameter cannot be used"),
        (lambda m, o: (nn.Sequential(), o), SettingError, "model='Sequential' cannot be used.*with parameters"),
        (lambda m, o: ([], o), SettingError, "empty"),
        (lambda m, o: (m, {}), SettingError, "empty"),
        (lambda m, o: (mlp(), o), SettingError, "optimizer='SGD.*steps none"),
    ],
)
def test_wrong_arguments_are_refused(arguments: Callable[..., Any], error: type[Exception], words: str) -> None:
    """Arguments that cannot work are an error at attach that says what was given and what is allowed."""
    with pytest.raises(error, match=words):
        _attach(*arguments(*_pair()))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"prot": 0}, UnknownSettingError, "'prot'.*Did you mean 'port'"),
        ({"overhead_bugdet": 0.1}, UnknownSettingError, "overhead_budget"),
        ({"port": -1}, SettingError, "port=-1.*from 0 to 65,535, or None"),
        ({"port": "9464"}, SettingError, "port='9464'"),
        ({"overhead_budget": 0}, SettingError, "overhead_budget=0"),
        ({"ring_slots": 1}, SettingError, "ring_slots=1"),
        ({"exporters": ("no-such",)}, SettingError, "exporters='no-such'.*memory"),
        ({"exporters": (3,)}, SettingError, "exporters"),
        ({"jsonl": "runs/{nothing}.jsonl"}, SettingError, "placeholders"),
        ({"jsonl": "/proc/none/log.jsonl"}, SettingError, "/proc/none/log.jsonl"),
        ({"host": "no.such.host.invalid", "port": 0}, SettingError, "no.such.host.invalid"),
        ({"config": {"port": 0}}, SettingError, "loopscope.Config"),
        ({"initial_step": 1.5}, SettingError, "initial_step=1.5"),
    ],
)
def test_wrong_settings_are_refused_without_a_trace(
    settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    """A wrong setting is an error at attach that names the nearest one or what is allowed; nothing stays behind."""
    before = threading.active_count()

    with pytest.raises(error, match=words):
        _attach(*_pair(), **settings)

    assert threading.active_count() == before
    assert not _global_optimizer_pre_hooks


def test_wrong_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value in the environment is checked like an argument, and the message names the variable."""
    monkeypatch.setenv("LOOPSCOPE_HISTORY", "many")

    with pytest.raises(SettingError, match="LOOPSCOPE_HISTORY='many'"):
        _attach(*_pair())


# one, several, none


def test_attaching_again_returns_the_same_agent() -> None:
    """The same objects have one agent, and its hooks are there once."""
    model, optimizer = _pair()
    memory = MemoryExporter()
    with _attach(model, optimizer, exporters=(memory,)) as agent:
        again = _attach(model, optimizer, exporters=(memory,))
        _train(model, optimizer, 3)

    assert again is agent
    assert [report.step for report in memory.steps] == [0, 1, 2]


def test_settings_that_are_ignored_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """Attaching again with other settings warns that they are ignored."""
    model, optimizer = _pair()
    with _attach(model, optimizer), caplog.at_level(logging.WARNING, logger="loopscope"):
        _attach(model, optimizer, history=3)

    assert "already attached" in caplog.text


def test_attaching_after_detach_is_a_new_agent() -> None:
    """A detached agent does not come back; the new one sees the steps."""
    model, optimizer = _pair()
    first = _attach(model, optimizer)
    first.detach()
    with _attach(model, optimizer) as second:
        _train(model, optimizer)

    assert second is not first
    assert second.latest is not None
    assert first.latest is None


def test_agents_share_one_server_and_have_names() -> None:
    """Agents are told apart by name, a taken one is numbered, and one server shows them all until the last leaves."""
    pairs = [_pair() for _ in range(4)]
    names = [None, None, "model", "critic"]
    agents = [_attach(*pair, port=0, name=name) for pair, name in zip(pairs, names, strict=True)]
    for pair in pairs:
        _train(*pair)
    for agent in agents:
        agent.flush()
    text = request(f"{agents[0].url}/metrics").text
    agents[0].detach()
    urls = [agent.url for agent in agents[1:]]
    later = request(f"{agents[1].url}/healthz").status
    for agent in agents:
        agent.detach()

    assert [agent.name for agent in agents] == ["model", "model-2", "model-3", "critic"]
    assert len(set(urls)) == 1
    assert later == 200
    assert all(f'loopscope_steps_total{{agent="{agent.name}"}} 1.0' in text for agent in agents)


@pytest.mark.parametrize(
    "give", [lambda m, o: (m, o), lambda m, o: (m,), lambda m, o: (None, o), lambda m, o: (), lambda m, o: ([m], [o])]
)
def test_steps_are_found_whatever_is_given(give: Callable[..., Any]) -> None:
    """Model, optimizer, both or neither: the step and the parameters' own names are found."""
    model, optimizer = _pair()
    memory = MemoryExporter()
    with _attach(*give(model, optimizer), exporters=(memory,)):
        _train(model, optimizer, 2)

    assert [report.step for report in memory.steps] == [0, 1]
    assert memory.steps[0].gradients is not None
    assert memory.steps[0].gradients.names == tuple(name for name, _ in model.named_parameters())


def test_other_peoples_optimizers_are_left_out() -> None:
    """An agent of one model reports none of another's steps."""
    memory = MemoryExporter()
    with _attach(*_pair(), exporters=(memory,)):
        _train(*_pair())

    assert memory.steps == ()


# disabled


def test_disabled_agent_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With LOOPSCOPE_DISABLED=1 attach returns an object with the same face, and hooks nothing."""
    monkeypatch.setenv("LOOPSCOPE_DISABLED", "1")
    model, optimizer = _pair()

    with _attach(model, optimizer) as agent:
        agent.log(loss=1.0)
        agent.epoch()

    assert isinstance(agent, NullAgent)
    assert agent.flush()
    assert not _global_optimizer_pre_hooks


def test_null_agent_has_the_face_of_an_agent() -> None:
    """Code that is written for an agent runs with the null agent: all but its settings is there."""
    with _attach(*_pair()) as agent:
        missing = {name for name in dir(agent) if not name.startswith("_")} - set(dir(NullAgent()))

    assert missing == {"config"}


def test_import_brings_no_torch() -> None:
    """`import loopscope` is cheap: torch comes with attach."""
    code = "import sys, loopscope; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)

    assert done.stdout == "False\n"


# copies


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda each: pickle.loads(pickle.dumps(each)),
        lambda each: torch.load(_saved(each), weights_only=False),
    ],
    ids=["deepcopy", "pickle", "save"],
)
def test_model_and_optimizer_can_be_copied(copied: Callable[[Any], Any]) -> None:
    """While attached both can be deep-copied, pickled and saved, and the copies train."""
    model, optimizer = _pair()
    with _attach(model, optimizer) as agent:
        _train(model, optimizer)
        model_copy, optimizer_copy = copied((model, optimizer))
        _train(model_copy, optimizer_copy)
        agent.flush()

        assert agent.latest is not None
        assert agent.latest.step == 0


def _saved(value: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


def test_unwritable_log_leaves_nothing_open(tmp_path: Path) -> None:
    """A log that cannot be opened is an error at attach; the server that was to come is not started."""
    (tmp_path / "file").write_text("")
    threads_before = set(threading.enumerate())  # those of other tests whose agents are still closing themselves

    with pytest.raises(SettingError, match="jsonl"):
        _attach(*_pair(), port=0, jsonl=str(tmp_path / "file" / "log.jsonl"))

    assert not set(threading.enumerate()) - threads_before


def test_agent_closes_itself_with_its_optimizer() -> None:
    """When the optimizer is collected the agent detaches, as in a notebook cell that is run again."""
    model, optimizer = _pair()
    agent = _attach(model, optimizer)
    _train(model, optimizer)
    del optimizer
    gc.collect()

    assert wait_until(lambda: not agent.is_attached)
    assert wait_until(lambda: not _global_optimizer_pre_hooks)
