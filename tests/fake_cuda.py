"""Training steps on fake CUDA tensors, which raise where the host asks for a value: `fake_cuda.py GUARD_LIBRARY`.

Answers each line of its input, the names of a case, with one line of JSON: the fault, empty where there was none.
The CPU build has neither a device guard nor an autograd engine for CUDA. The guard is a library of two lines, compiled
by the test; what a backward leaves behind is put in place by hand, after a call of `backward` that the hooks see.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import loopscope

__all__ = ["BUDGETS", "DTYPES", "GUARD_SOURCE", "SHAPES", "STEPS"]

GUARD_SOURCE = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace { using Guard = c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>; C10_REGISTER_GUARD_IMPL(CUDA, Guard); }
"""
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "many-small": [(8, 8), (8,)] * 10,
    "convolutions": [(16, 3, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (16,), (16,), (16,), ()],
    "large": [(1_000, 3_000), (3_000,), (3_000, 1_000), (0,)],
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "complex64": torch.complex64}
BUDGETS = {"every-step-sampled": 1.0, "first-step-sampled": 1e-9}


class _Optimizer(torch.optim.Optimizer):
    """An optimizer that itself never reads on the host, whatever its settings."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter.sub_(parameter.grad)


def _backward(model: nn.ParameterList, scaler: torch.amp.GradScaler | None = None) -> None:
    loss = torch.ones((), device="cuda")
    with contextlib.suppress(RuntimeError):
        (loss if scaler is None else scaler.scale(loss)).backward()
    for index, parameter in enumerate(model):
        memory_format = torch.channels_last if parameter.dim() == 4 and index % 2 else torch.preserve_format
        parameter.grad = torch.ones_like(parameter, memory_format=memory_format)


def _plain(model: nn.ParameterList, optimizer: torch.optim.Optimizer) -> None:
    _backward(model)
    optimizer.step()
    optimizer.zero_grad()


def _clipped(model: nn.ParameterList, optimizer: torch.optim.Optimizer) -> None:
    _backward(model)
    _backward(model)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
    optimizer.step()
    model.zero_grad()


def _skipped(model: nn.ParameterList, optimizer: torch.optim.Optimizer) -> None:
    _backward(model)
    optimizer.zero_grad()
    _plain(model, optimizer)


def _missing(model: nn.ParameterList, optimizer: torch.optim.Optimizer) -> None:
    _backward(model)
    model[1].grad = None
    optimizer.step()
    optimizer.zero_grad()


def _scaled(model: nn.ParameterList, optimizer: Any) -> None:
    scaler = torch.amp.GradScaler("cpu")
    _backward(model, scaler)
    optimizer.grad_scale, optimizer.found_inf = scaler._get_scale_async(), torch.zeros((), device="cuda")
    optimizer.step()
    optimizer.zero_grad()


def _rate_on_device(model: nn.ParameterList, optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["lr"] = torch.full((), 0.1, device="cuda")
    _plain(model, optimizer)


STEPS: dict[str, Callable[[nn.ParameterList, Any], None]] = {
    "plain": _plain,
    "clipped": _clipped,
    "skipped": _skipped,
    "missing": _missing,
    "scaled": _scaled,
    "rate-on-device": _rate_on_device,
}


def _run(step: str, shapes: str, dtype: str, budget: str) -> str:
    """Return the traceback of what the hooks raised, empty where they raised nothing and saw the steps."""
    try:
        with FakeTensorMode():
            parameters = [torch.empty(shape, device="cuda", dtype=DTYPES[dtype]) for shape in SHAPES[shapes]]
            model = nn.ParameterList([nn.Parameter(parameter) for parameter in parameters])
            optimizer = _Optimizer(model.parameters())
            with loopscope.attach(model, optimizer, port=None, overhead_budget=BUDGETS[budget], strict=True) as agent:
                for _ in range(3):
                    STEPS[step](model, optimizer)
                num_seen = agent._loop._sources.of(optimizer).num_steps
    except RuntimeError:  # what a host read raises; anything else ends the script
        return traceback.format_exc()
    else:
        return f"{agent.internal_errors}, {num_seen} steps" if agent.internal_errors or num_seen < 3 else ""


if __name__ == "__main__":
    ctypes.CDLL(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(_run(*line.split())), flush=True)
