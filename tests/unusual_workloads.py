"""Training loops that few write: sparse, complex and checkpointed ones, each optimizer of torch; seeds repeat them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tests.workload import Workload, mlp, with_optimizer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["UNUSUAL"]


def _sparse() -> Workload:
    model = nn.ModuleDict({"bag": nn.EmbeddingBag(50, 8, sparse=True, mode="sum"), "head": nn.Linear(8, 1)})
    for_bag = torch.optim.SparseAdam(model["bag"].parameters(), lr=1e-2)
    for_head = torch.optim.Adagrad(model["head"].parameters(), lr=1e-2)

    def step(_: int) -> Tensor:
        loss = model["head"](model["bag"](torch.randint(50, (6, 5)))).square().mean()
        loss.backward()
        for_bag.step()
        for_head.step()
        model.zero_grad()
        return loss

    return Workload(model, [for_bag, for_head], step)


def _in_backward() -> Workload:
    model = mlp()
    optimizers = {p: torch.optim.Adam([p], lr=1e-2, foreach=False) for p in model.parameters()}

    def update(parameter: Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)

    def step(_: int) -> Tensor:
        loss = model(torch.randn(4, 8)).square().mean()
        loss.backward()
        return loss

    return Workload(model, None, step)


def _checkpointed(*, use_reentrant: bool) -> Workload:
    model = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.2), nn.GELU()) for _ in range(3)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(_: int) -> Tensor:
        x = torch.randn(4, 8, requires_grad=True)
        for block in model:
            x = checkpoint(block, x, use_reentrant=use_reentrant)
        loss = x.square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return Workload(model, optimizer, step)


def _dropout_and_skips() -> Workload:
    """A hand-written skip of every fifth step, two losses with one graph, clipping by value."""
    model = nn.Sequential(mlp(), nn.Dropout(0.5))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)

    def step(index: int) -> Tensor:
        y = model(torch.randn(4, 8))
        y.square().mean().backward(retain_graph=True)
        loss = y.abs().mean()
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.01)
        if index % 5:
            optimizer.step()
        optimizer.zero_grad()
        return loss

    return Workload(model, optimizer, step)


def _complex() -> Workload:
    weight = nn.Parameter(torch.randn(8, 8, dtype=torch.complex64))
    model = nn.Module()
    model.weight = weight
    optimizer = torch.optim.SGD([weight], lr=1e-2, foreach=False)  # Adam itself fails on conjugated gradients

    def step(_: int) -> Tensor:
        loss = (torch.randn(4, 8, dtype=torch.complex64) @ weight.conj()).abs().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return Workload(model, optimizer, step)


class _Subclass(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]  # as users write it
        return super().step(closure)


def _of(optimizer_type: Callable[..., torch.optim.Optimizer], **settings: Any) -> Callable[[], Workload]:
    def make() -> Workload:
        model = mlp()
        return with_optimizer(model, optimizer_type(model.parameters(), **settings))

    return make


def _bfloat16() -> Workload:
    model = mlp().to(torch.bfloat16)
    return with_optimizer(
        model, torch.optim.Adam(model.parameters(), lr=1e-2), lambda: torch.randn(4, 8, dtype=torch.bfloat16)
    )


_optim = torch.optim
UNUSUAL: dict[str, Callable[[], Workload]] = {
    "sparse": _sparse,
    "in-backward": _in_backward,
    "checkpoint-reentrant": lambda: _checkpointed(use_reentrant=True),
    "checkpoint": lambda: _checkpointed(use_reentrant=False),
    "dropout-and-skips": _dropout_and_skips,
    "complex": _complex,
    "bfloat16": _bfloat16,
    "super-step": _of(_Subclass, lr=0.1),
    "rate-tensor": _of(_optim.SGD, lr=torch.tensor(0.1)),
    "sgd-foreach": _of(_optim.SGD, lr=0.1, momentum=0.9, nesterov=True, foreach=True),
    "sgd-fused": _of(_optim.SGD, lr=0.1, fused=True),
    "adagrad": _of(_optim.Adagrad, lr=0.1),
    "rmsprop": _of(_optim.RMSprop, lr=1e-2, centered=True),
    "adadelta": _of(_optim.Adadelta),
    "adamax": _of(_optim.Adamax),
    "nadam": _of(_optim.NAdam),
    "radam": _of(_optim.RAdam),
    "asgd": _of(_optim.ASGD),
    "rprop": _of(_optim.Rprop),
    "adafactor": _of(_optim.Adafactor),
}
