"""Recorded series: speeds and shares of each agent, with the numbers that a person would work out."""

from __future__ import annotations

import pytest
from tests.promtool import Case, assert_cases, labels, needs_promtool

pytestmark = needs_promtool

AGENT = {"job": "training", "instance": "host:9464", "agent": "model"}
DURATION = "loopscope_step_duration_seconds"
MEAN = f"instance_agent:{DURATION}:mean5m"
RATIO = "instance_agent:loopscope_gradient_clipping:ratio"
SHARE = "instance_agent_phase:loopscope_step_phase_seconds:share5m"


def of(name: str, **more: str) -> str:
    """Return a series of the agent."""
    return name + labels(**AGENT, **more)


@pytest.mark.parametrize(
    ("series", "recorded"),
    [
        pytest.param(
            {of("loopscope_steps_total"): "0+30x40"},
            {of("instance_agent:loopscope_steps:rate5m"): 2},
            id="steps-a-second",
        ),
        pytest.param(
            {of(f"{DURATION}_sum"): "0+15x40", of(f"{DURATION}_count"): "0+30x40"},
            {of(MEAN): 0.5},
            id="mean-step",
        ),
        pytest.param({of(f"{DURATION}_sum"): "3x40", of(f"{DURATION}_count"): "9x40"}, {}, id="no-mean-without-steps"),
        pytest.param(
            {
                of(f"{DURATION}_bucket", le="0.1"): "0+50x40",
                of(f"{DURATION}_bucket", le="0.2"): "0+100x40",
                of(f"{DURATION}_bucket", le="+Inf"): "0+100x40",
            },
            {
                of(f"instance_agent:{DURATION}:p50_5m"): 0.1,
                of(f"instance_agent:{DURATION}:p95_5m"): 0.19,
                of(f"instance_agent:{DURATION}:p99_5m"): 0.198,
            },
            id="quantiles",
        ),
        pytest.param(
            {
                of(f"{DURATION}_sum"): "0+20x40",
                of("loopscope_step_phase_seconds_total", phase="data_wait"): "0+5x40",
                of("loopscope_step_phase_seconds_total", phase="backward"): "0+15x40",
            },
            {
                of(SHARE, phase="data_wait"): 0.25,
                of(SHARE, phase="backward"): 0.75,
            },
            id="share-of-phases",
        ),
        pytest.param(
            {
                of("loopscope_device_syncs_total", site="a.py:1", kind="item"): "0+60x40",
                of("loopscope_device_syncs_total", site="a.py:2", kind="cpu"): "0+30x40",
                of("loopscope_steps_total", optimizer="first"): "0+10x40",
                of("loopscope_steps_total", optimizer="second"): "0+20x40",
            },
            {of("instance_agent:loopscope_device_syncs:per_step5m"): 3},
            id="syncs-a-step-of-all-lines-and-optimizers",
        ),
        pytest.param(
            {
                of("loopscope_gradient_global_norm", stage="pre_clip"): "8x40",
                of("loopscope_gradient_global_norm", stage="post_clip"): "2x40",
            },
            {of(RATIO): 0.25},
            id="clipping",
        ),
        pytest.param(
            {of("loopscope_gradient_global_norm", stage="post_clip"): "2x40"},
            {},
            id="no-ratio-where-nothing-is-clipped",
        ),
    ],
)
def test_recorded(tmp_path, series, recorded):
    """Of so much in each 15 s this is what is recorded under its name; where nothing is known nothing is recorded."""
    found = {f"round({name}, 0.001)": {} for name in {each.partition("{")[0] for each in recorded} or {RATIO, MEAN}}
    for name, value in recorded.items():
        metric, brace, values = name.partition("{")
        found[f"round({metric}, 0.001)"][brace + values] = value

    assert_cases(tmp_path, case=Case(series, values={"8m": found}))
