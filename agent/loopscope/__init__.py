"""loopscope: the stethoscope for PyTorch training loops. `loopscope.attach(model, optimizer)` is all it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .allowances import allow_sync
from .config import Config, is_disabled
from .errors import SettingError, UnknownSettingError
from .null import NullAgent
from .protocols import Detector, Exporter, Probe
from .records import (
    ActivityReport,
    EpochReport,
    Event,
    GradientSample,
    GradientTable,
    LayerStatistics,
    RunInfo,
    SelfReport,
    StepReport,
    SyncCount,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.nn import Module
    from torch.optim import Optimizer

    from .agent import Agent

__all__ = [
    "ActivityReport",
    "Config",
    "Detector",
    "EpochReport",
    "Event",
    "Exporter",
    "GradientSample",
    "GradientTable",
    "LayerStatistics",
    "NullAgent",
    "Probe",
    "RunInfo",
    "SelfReport",
    "SettingError",
    "StepReport",
    "SyncCount",
    "UnknownSettingError",
    "__version__",
    "allow_sync",
    "attach",
]

__version__ = "0.1.0"


def attach(
    model: Module | Sequence[Module] | Mapping[str, Module] | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | Mapping[str, Optimizer] | None = None,
    *,
    name: str | None = None,
    config: Config | None = None,
    **settings: Any,
) -> Agent | NullAgent:
    """Attach to a training loop and return the agent, a handle and a context manager.

    `model` and `optimizer` may each be one, a sequence, or a mapping of names; with an optimizer missing, every
    optimizer that steps the model's parameters is watched; with neither, every optimizer of the process. `name` is the
    label `agent`. `settings` are the fields of `Config`, each also an environment variable `LOOPSCOPE_<NAME>`.

    Attaching the same objects again returns the same agent. With `LOOPSCOPE_DISABLED=1` a NullAgent is returned.
    The call takes well under 0.5 s; it never touches the device.

    Raises:
        SettingError: (a ValueError) an argument or a setting cannot work: what it is, what is allowed, the remedy.
        TypeError: a model or an optimizer is neither, or a setting does not exist (with the nearest name).
    """
    if is_disabled():
        return NullAgent()
    from .attaching import attach_agent  # torch comes in here, not with `import loopscope`

    return attach_agent(model, optimizer, name=name, config=config, settings=settings)
