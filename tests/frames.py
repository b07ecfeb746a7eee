"""Frames made up for tests: what the training thread would hand over."""

from __future__ import annotations

import time

import numpy as np

from loopscope.frames import Layout, Part, StepFrame, Table, Values

__all__ = ["step_frame"]

_TABLE = Table(
    layers=(), names=(), layer_index_P=np.zeros(0, int), num_elements_P=np.zeros(0, int), smallest_normal_P=np.zeros(0)
)
_LAYOUT = Layout(parameter_index_N=np.zeros(0, int), owner_W=np.zeros(0, int))


def step_frame(number: int, *values: Values) -> StepFrame:
    """Return a step that can be told by its epoch."""
    return StepFrame(
        optimizer=None,
        table=_TABLE,
        epoch=number,
        micro_steps=1,
        time_unix_seconds=time.time(),
        duration_seconds=None,
        phases={},
        timeline=None,
        samples=None,
        learning_rates=(),
        skipped=None,
        parts=tuple(Part(values=each, layout=_LAYOUT) for each in values),
    )
