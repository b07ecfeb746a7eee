"""Logs for the pages under test: each of a kind that a report has to cope with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tests.builders import (
    activity_report,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    layer_statistics,
    run_info,
    step_report,
)
from tests.jsonl_logs import write

from loopscope.records import NUM_EXPONENT_BINS, Record

__all__ = ["EVIL", "KINDS", "write_log"]

EVIL = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(2)>", "\x1b[31mred\x00", "\ud800&amp;")
"""Names that a page or a terminal would act on."""


def write_log(directory: Path, kind: str) -> Path:
    """Write the log of a kind into the directory and return its path."""
    path = directory / f"{kind}.jsonl"
    write(path, *KINDS[kind]())
    return path


def _full() -> Sequence[Record]:
    """A run with all that a log can have."""
    histogram = np.zeros((2, NUM_EXPONENT_BINS), dtype=np.int64)
    histogram[:, 40:60] = 5
    states = (("healthy", "vanishing"), ("", "vanishing_gradient"))
    steps = [
        step_report(
            step,
            epoch=step // 10,
            loss=2.0 * 0.9**step,
            learning_rates=(0.1 / (1 + step),),
            gradients=gradient_table(
                np.array([3.0, 4.0, 6.0, 8.0]) / (1 + step),
                global_norm_pre_clip=20.0,
                sample=gradient_sample(histogram_GB=histogram) if step % 5 == 0 else None,
            ),
        )
        for step in range(40)
    ]
    epochs = [
        epoch_report(epoch, gradients=layer_statistics(health=states[0], health_rule=states[1])) for epoch in range(4)
    ]
    events = [
        event("vanishing_gradient", "warning", 12, first_cause=True, attributes={"incident": 1}),
        event("loss_spike", "warning", 13, attributes={"incident": 1, "happened": {"phases": {"forward": 0.5}}}),
        event("compilation", "info", 0, layer=None, site="train.py:3"),
    ]
    return [run_info(), *steps, *epochs, *events, activity_report()]


def _nan() -> Sequence[Record]:
    bad = gradient_table([math.nan, 4.0, math.inf, 8.0], num_nonfinite=[2, 0, 1, 0])
    return [run_info(), *(step_report(step, loss=math.nan, gradients=bad) for step in range(20)), event(step=0)]


def _gan() -> Sequence[Record]:
    return [
        run_info(agent="gan"),
        *(
            step_report(step, agent="gan", optimizer=optimizer, loss=1.0 + (step + shift) % 7)
            for step in range(30)
            for shift, optimizer in enumerate(("generator", "critic"))
        ),
        *(epoch_report(epoch, agent="gan", optimizer="critic") for epoch in range(3)),
    ]


def _evil() -> Sequence[Record]:
    # A builder's parameter bears the name of its layer.
    table = gradient_table([1.0, 2.0, 3.0, 4.0], layers=EVIL)
    return [
        run_info(layers=EVIL, model=EVIL[0], host=EVIL[1], settings={EVIL[0]: EVIL[1]}, versions={EVIL[0]: EVIL[1]}),
        *(step_report(step, gradients=table) for step in range(3)),
        *(epoch_report(epoch, gradients=layer_statistics(EVIL)) for epoch in range(2)),
        event("nonfinite_gradient", "critical", 1, layer=EVIL[0], site=EVIL[1], message=EVIL[0], remedy=EVIL[1]),
        event(EVIL[0], "warning", 1, layer=EVIL[2], attributes={"happened": {"events": [EVIL[3]], "loss": EVIL[0]}}),
        activity_report({"loopscope.device.syncs": {(EVIL[0], "item"): 1.0}}),
    ]  # fmt: skip


def _wide() -> Sequence[Record]:
    layers = [f"transformer.layers.{index}.self_attention.projection" for index in range(2_000)]
    health = ["dead" if index == 777 else "healthy" for index in range(2_000)]
    statistics = layer_statistics(layers, health=tuple(health), health_rule=("",) * 2_000)
    table = gradient_table(np.ones(2_000), layers=layers)
    return [
        run_info(layers=layers),
        *(step_report(step, gradients=table) for step in range(3)),
        *(epoch_report(epoch, gradients=statistics) for epoch in range(3)),
    ]


KINDS: Mapping[str, Callable[[], Sequence[Record]]] = {
    "full": _full,
    "nan": _nan,
    "gan": _gan,
    "evil": _evil,
    "wide": _wide,
    "one_step": lambda: [run_info(), step_report(0)],
    "no_gradients": lambda: [run_info(), *(step_report(step, gradients=None) for step in range(5))],
    "no_losses": lambda: [run_info(), *(step_report(step, loss=None, duration_seconds=None) for step in range(5))],
    "no_steps": lambda: [run_info()],
    "no_run": lambda: [step_report(step) for step in range(5)],
    "skipped": lambda: [run_info(), *(step_report(0, skipped="manual", loss=math.inf) for _ in range(3))],
    "windows": lambda: [*_full()[:41], *(epoch_report(0, kind="window", window=index) for index in range(4))],
    "epochs_alone": lambda: [run_info(), *(epoch_report(epoch) for epoch in range(300))],
    "ranks": lambda: [step_report(step, rank=rank) for step in range(5) for rank in range(3)],
    "negative_losses": lambda: [run_info(), *(step_report(step, loss=-1.0 * step) for step in range(9))],
    "zeros": lambda: [
        run_info(),
        *(step_report(s, loss=0.0, gradients=gradient_table([0.0] * 4), duration_seconds=0.0) for s in range(4)),
    ],
}
