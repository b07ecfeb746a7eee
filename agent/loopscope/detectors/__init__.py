"""Detectors: one file a rule family, state machines that turn reports into events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..config import Config
from ..protocols import Detector
from .accumulation import AccumulatingGradient, AccumulatingRule
from .activations import DeadUnits, DeadUnitsRule, SaturatedUnits, SaturatedUnitsRule
from .baseline import ExplodingRule, SpikeRule
from .growth import GradientGrowth
from .hooks import HookLeak, HookLeakRule, HookNeverFires, SilentHookRule
from .layers import DeadRule, FrozenRule, LayerLife
from .loss_bounds import DivergingRule, LossSpikeRule
from .losses import LossCourse
from .memory import MemoryCreep, MemoryCreepRule
from .nonfinite import NonfiniteGradient, NonfiniteLoss
from .progress import PlateauRule
from .settings import Rules, parse_rules
from .storms import DeviceSyncStorm, RecompileStorm, RecompileStormRule, SyncStormRule
from .syncs import SyncBudget
from .timing import InputBound, InputBoundRule, OutlierRule, StepTimeOutlier
from .updates import Underflow, UnderflowRule, UpdateRatio, UpdateRatioRule, ZeroLearningRate, ZeroLearningRateRule
from .vanishing import VanishingGradient, VanishingRule

__all__ = ["DEFAULT_RULES", "default_detectors"]


@dataclass(frozen=True, slots=True)
class _NoBounds:
    """Of a rule that can only be switched off."""


DEFAULT_RULES: Rules = {
    "nonfinite_gradient": _NoBounds(),
    "nonfinite_loss": _NoBounds(),
    "exploding_gradient": ExplodingRule(),
    "gradient_spike": SpikeRule(),
    "accumulating_gradient": AccumulatingRule(),
    "vanishing_gradient": VanishingRule(),
    "dead_layer": DeadRule(),
    "frozen_layer": FrozenRule(),
    "zero_learning_rate": ZeroLearningRateRule(),
    "update_ratio": UpdateRatioRule(),
    "underflow": UnderflowRule(),
    "dead_units": DeadUnitsRule(),
    "saturated_units": SaturatedUnitsRule(),
    "loss_spike": LossSpikeRule(),
    "loss_diverging": DivergingRule(),
    "loss_plateau": PlateauRule(),
    "device_sync_storm": SyncStormRule(),
    "recompile_storm": RecompileStormRule(),
    "hook_leak": HookLeakRule(),
    "hook_never_fires": SilentHookRule(),
    "input_bound": InputBoundRule(),
    "step_time_outlier": OutlierRule(),
    "memory_creep": MemoryCreepRule(),
}
"""The bounds of every kind, which the setting `rules` changes."""

_BY_KIND: dict[str, Any] = {
    "nonfinite_gradient": lambda _: NonfiniteGradient(),
    "nonfinite_loss": lambda _: NonfiniteLoss(),
    "accumulating_gradient": AccumulatingGradient,
    "vanishing_gradient": VanishingGradient,
    "zero_learning_rate": ZeroLearningRate,
    "update_ratio": UpdateRatio,
    "underflow": Underflow,
    "dead_units": DeadUnits,
    "saturated_units": SaturatedUnits,
    "device_sync_storm": DeviceSyncStorm,
    "recompile_storm": RecompileStorm,
    "hook_leak": HookLeak,
    "hook_never_fires": HookNeverFires,
    "input_bound": InputBound,
    "step_time_outlier": StepTimeOutlier,
    "memory_creep": MemoryCreep,
}
_BY_FAMILY: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (GradientGrowth, ("exploding_gradient", "gradient_spike")),
    (LayerLife, ("dead_layer", "frozen_layer")),
    (LossCourse, ("loss_spike", "loss_diverging", "loss_plateau")),
)


def default_detectors(config: Config | None = None) -> tuple[Detector, ...]:
    """Return the detectors of one agent, gradients before losses before time: the order of causes within a step.

    Raises SettingError for `config.rules` that do not exist.
    """
    config = config or Config()
    rules = parse_rules(config.rules, DEFAULT_RULES)
    single = {kind: make(rules[kind]) for kind, make in _BY_KIND.items() if rules[kind] is not None}
    families = [make(*map(rules.get, kinds)) for make, kinds in _BY_FAMILY if any(rules[kind] for kind in kinds)]
    first = [single.pop(kind) for kind in ("nonfinite_gradient", "nonfinite_loss") if kind in single]
    budget = [] if config.sync_budget is None else [SyncBudget(config.sync_budget)]
    return (*first, *families, *single.values(), *budget)
