"""What is known of a run at attach: its name, rank, model and versions."""

from __future__ import annotations

import dataclasses
import os
import platform
import socket
import time
from collections.abc import Mapping

import torch
from torch.nn import Module
from torch.nn.parameter import UninitializedParameter

from .config import Config, launcher_rank
from .groups import LayerPlan
from .records import RunInfo

__all__ = ["run_info"]


def run_info(agent: str, models: Mapping[str, Module], plan: LayerPlan, num_parameters: int, config: Config) -> RunInfo:
    """Return the first record of a run."""
    now_seconds = time.time()
    started = time.strftime("%Y%m%d-%H%M%S", time.localtime(now_seconds))
    distinct = {id(parameter): parameter for model in models.values() for parameter in model.parameters()}
    settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    settings["exporters"] = [each if isinstance(each, str) else type(each).__name__ for each in config.exporters]
    settings["token"] = None if config.token is None else "hidden"
    return RunInfo(
        run=config.run or f"{started}-{os.getpid()}",
        agent=agent,
        rank=_rank(),
        time_unix_seconds=now_seconds,
        model=", ".join(_type_name(model) for model in models.values()) or "unknown",
        num_parameters=num_parameters,
        num_elements=sum(parameter.numel() for parameter in distinct.values() if not _is_lazy(parameter)),
        layers=plan.layers,
        layer_ranks={layer: rank for rank, layer in enumerate(plan.layers)},
        initial_step=config.initial_step,
        initial_epoch=config.initial_epoch,
        versions={"torch": torch.__version__, "python": platform.python_version(), "loopscope": "0.1.0"},
        settings=settings,
        host=socket.gethostname(),
        pid=os.getpid(),
    )


def _rank() -> int | None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return launcher_rank()


def _type_name(model: Module) -> str:
    for attribute in ("_orig_mod", "module"):  # torch.compile and DDP wrap the model that the user knows
        inner = getattr(model, attribute, None)
        if isinstance(inner, Module):
            return _type_name(inner)
    return type(model).__name__


def _is_lazy(parameter: torch.Tensor) -> bool:
    return isinstance(parameter, UninitializedParameter)
