"""The records that leave the training thread: frozen, slotted, made of plain values and numpy, without torch."""

from __future__ import annotations

from typing import TypeAlias

from .activations import ActivationTable
from .activity import ActivityReport, SyncCount
from .epochs import EpochReport, LayerStatistics
from .events import Event
from .gradients import (
    EXPONENT_HIGH,
    EXPONENT_LOW,
    NUM_EXPONENT_BINS,
    Flags,
    Floats,
    GradientSample,
    GradientTable,
    Integers,
)
from .health import HEALTH_STATES, HEALTHY, Anomaly, HealthReport, LayerState
from .hooks import HookCount, HookSilence
from .light import maker, needed
from .nonfinite import NonfiniteOrigin
from .run import RunInfo, SelfReport
from .steps import StepReport

__all__ = [
    "EXPONENT_HIGH",
    "EXPONENT_LOW",
    "HEALTHY",
    "HEALTH_STATES",
    "NUM_EXPONENT_BINS",
    "ActivationTable",
    "ActivityReport",
    "Anomaly",
    "EpochReport",
    "Event",
    "Flags",
    "Floats",
    "GradientSample",
    "GradientTable",
    "HealthReport",
    "HookCount",
    "HookSilence",
    "Integers",
    "LayerState",
    "LayerStatistics",
    "NonfiniteOrigin",
    "Record",
    "RunInfo",
    "SelfReport",
    "StepReport",
    "SyncCount",
    "maker",
    "needed",
]

Record: TypeAlias = RunInfo | StepReport | EpochReport | Event | SelfReport | ActivityReport | HealthReport
