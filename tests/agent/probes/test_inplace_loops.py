"""Laws of the in-place probe in loops of many kinds: the line is named, whoever calls backward and step."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.inplacing import Broken, inplace_events, model_and_optimizer, train_once
from tests.loops import batch, network, watch
from tests.python_process import run_python
from torch import Tensor, nn

_CULPRIT = "hidden += 1"


class _Trainer:
    """Runs a module as Lightning does: the whole step is the closure of the optimizer's."""

    def __init__(self, training_step: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer) -> None:
        self.training_step, self.optimizer = training_step, optimizer

    def fit(self, batches: list[Tensor]) -> None:
        """Train on each batch."""
        for inputs in batches:
            self.optimizer.step(lambda inputs=inputs: self._closure(inputs))  # type: ignore[misc]

    def _closure(self, inputs: Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.training_step(inputs)
        loss.backward()
        return float(loss.detach())


class _Wrapper(nn.Module):
    """A module that has the model and the loss, as accelerators' wrappers do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        return self.module(inputs).square().mean()


def test_a_trainer_that_owns_the_loop() -> None:
    """The closure's backward raises, and the note names the line in the model."""
    model, optimizer = model_and_optimizer(_Wrapper(Broken()))
    trainer = _Trainer(model, optimizer)
    with watch(model, optimizer) as watched:
        with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
            trainer.fit([batch(0), batch(1)])
        (event,) = inplace_events(watched)
    assert _CULPRIT in caught.value.__notes__[0]
    assert event.attributes["culprit_text"] == _CULPRIT


def test_a_trainer_of_a_healthy_model_is_silent() -> None:
    """And trains as without us."""
    results = []
    for is_watched in (False, True):
        model, optimizer = model_and_optimizer(_Wrapper(network()))
        trainer, batches = _Trainer(model, optimizer), [batch(seed) for seed in range(5)]
        if is_watched:
            with watch(model, optimizer) as watched:
                trainer.fit(batches)
                assert inplace_events(watched) == []
        else:
            trainer.fit(batches)
        results.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(*results)


def test_gradient_accumulation() -> None:
    """The second micro-step of the first step fails as well as the first would."""
    model, optimizer = model_and_optimizer(Broken())
    with watch(model, optimizer) as watched:
        model.layer(batch(0)).square().mean().backward()
        with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
            model(batch(1)).square().mean().backward()
        assert len(inplace_events(watched)) == 1
    assert _CULPRIT in caught.value.__notes__[0]


def test_mixed_precision() -> None:
    """Under autocast and a GradScaler the saved tensor is bfloat16, and the line is the same."""
    model, optimizer = model_and_optimizer(Broken())
    scaler = torch.amp.GradScaler("cpu")
    with watch(model, optimizer) as watched:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(batch()).square().mean()
        with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
            scaler.scale(loss).backward()
        assert len(inplace_events(watched)) == 1
    assert _CULPRIT in caught.value.__notes__[0]


def test_an_exception_in_forward_leaves_it_armed() -> None:
    """A step that never came to its end does not count, and nothing of ours is in its traceback."""
    model, optimizer = model_and_optimizer(Broken())
    with watch(model, optimizer) as watched:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
            model(torch.randn(3, 17))
        assert not getattr(caught.value, "__notes__", [])
        with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
            model(batch()).sum().backward()
        assert len(inplace_events(watched)) == 1
    assert _CULPRIT in caught.value.__notes__[0]


def test_a_healthy_loop_that_recovers_from_an_exception_is_silent() -> None:
    """As one that skips a bad batch."""
    model, optimizer = model_and_optimizer()
    with watch(model, optimizer) as watched:
        for index in range(4):
            try:
                train_once(model, optimizer)
                if index == 1:
                    model(torch.randn(3, 17))
            except RuntimeError:
                continue
        assert inplace_events(watched) == []


def test_data_parallel_on_two_processes(tmp_path: Path) -> None:
    """Each rank's exception has the line; a healthy model is silent on both."""
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(_DATA_PARALLEL))
    done = run_python(str(script), str(tmp_path / "rendezvous"))
    for rank in (0, 1):
        assert f"rank {rank}: healthy 0 events, broken 1 notes, named True" in done.stdout


_DATA_PARALLEL = """
    import os, sys
    import torch
    import torch.distributed as dist
    from torch import multiprocessing, nn
    from torch.nn.parallel import DistributedDataParallel
    import loopscope


    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, inputs):
            hidden = torch.exp(self.layer(inputs))
            hidden += 1
            return hidden


    def train(rank, rendezvous):
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
        healthy = DistributedDataParallel(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True)))
        optimizer = torch.optim.SGD(healthy.parameters(), lr=0.1)
        with loopscope.attach(healthy, optimizer, port=None, log_events=False) as agent:
            for _ in range(4):
                optimizer.zero_grad()
                healthy(torch.randn(6, 4)).sum().backward()
                optimizer.step()
            agent.flush()
            num_events = sum(event.kind.startswith("inplace") for event in agent.events)
        broken = DistributedDataParallel(Broken())
        optimizer = torch.optim.SGD(broken.parameters(), lr=0.1)
        with loopscope.attach(broken, optimizer, port=None, log_events=False):
            try:
                broken(torch.randn(6, 4)).sum().backward()
            except RuntimeError as error:
                notes = error.__notes__
        is_named = "hidden += 1" in notes[0]
        print(f"rank {rank}: healthy {num_events} events, broken {len(notes)} notes, named {is_named}", flush=True)
        os._exit(0)  # the process group waits for a backward that never ends


    if __name__ == "__main__":
        multiprocessing.spawn(train, args=(sys.argv[1],), nprocs=2)
"""
