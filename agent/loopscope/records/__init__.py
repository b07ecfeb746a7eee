"""The records that leave the training thread: frozen, slotted, made of plain values and numpy, without torch."""

from __future__ import annotations

from typing import TypeAlias

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
from .run import RunInfo, SelfReport
from .steps import StepReport

__all__ = [
    "EXPONENT_HIGH",
    "EXPONENT_LOW",
    "NUM_EXPONENT_BINS",
    "ActivityReport",
    "EpochReport",
    "Event",
    "Flags",
    "Floats",
    "GradientSample",
    "GradientTable",
    "Integers",
    "LayerStatistics",
    "Record",
    "RunInfo",
    "SelfReport",
    "StepReport",
    "SyncCount",
]

Record: TypeAlias = RunInfo | StepReport | EpochReport | Event | SelfReport | ActivityReport
