"""What the agent costs a loop on the GPU, as a ratio of the wall time of blocks, interleaved with the bare loop."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from pathlib import Path

import pytest
import torch

import loopscope

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
_PAIRS, _BLOCK_SECONDS = 7, 2.0


def _workload(name):
    specification = importlib.util.spec_from_file_location("benchmark_workloads", _BENCHMARKS / "workloads.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module.WORKLOADS[name].make()


def _seconds(loop, num_steps) -> float:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    loop.run(num_steps)
    torch.cuda.synchronize()
    return time.perf_counter() - begin


@pytest.mark.parametrize("name", ["resnet", "gpt", "tiny_tensors", "tiny_step"])
def test_overhead_is_measured(name, row):
    """The ratio goes into the table beside that of a second bare loop; what is asserted is that all was reported."""
    bare, null, watched = (_workload(name).to("cuda") for _ in range(3))
    with loopscope.attach(watched.model, watched.optimizer, port=0) as agent:
        for loop in (bare, null, watched):
            loop.run(50)
        time.sleep(5)  # kernels are compiled on a thread of their own
        watched.run(50)
        num_steps = max(10, int(_BLOCK_SECONDS / (_seconds(bare, 50) / 50)))
        ratios, noise = [], []
        for _ in range(_PAIRS):
            own = _seconds(bare, num_steps)
            ratios.append(_seconds(watched, num_steps) / own)
            noise.append(_seconds(null, num_steps) / own)
        assert agent.flush(30)
        assert agent.internal_errors == {}
        direct, interval = agent._report_self().overhead_ratio, agent._report_self().sample_interval_steps
    row(
        f"overhead, {name} ({own / num_steps * 1e3:.2f} ms a step, {num_steps} a block, a sample every {interval})",
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); null "
        f"{statistics.median(noise):.3f} ({min(noise):.3f} to {max(noise):.3f}); own account {1 + direct:.3f}",
        "1.01, or 100 us a step",
    )
