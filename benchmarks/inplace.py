"""What an armed step costs, and one after it: small transformers and many small layers, beside the bare loop.

python benchmarks/inplace.py [ROUNDS]    prints ratios of medians of the thread's CPU time; they take turns step by step
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

import loopscope

__all__: list[str] = []


def transformer(width: int) -> tuple[nn.Module, torch.Tensor]:
    """Two layers on 8 sequences of 64."""
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(8, 64, width)


def small_layers() -> tuple[nn.Module, torch.Tensor]:
    """Twenty layers of 32: nothing but the cost of calling operators."""
    layers = [part for _ in range(20) for part in (nn.Linear(32, 32), nn.ReLU(inplace=True))]
    return nn.Sequential(*layers), torch.randn(32, 32)


def measure(make: Callable[[], tuple[nn.Module, torch.Tensor]], rounds: int) -> tuple[float, dict[str, float]]:
    """Return the milliseconds of a bare step, and the ratio of the others to it."""
    model, inputs = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> float:
        begin = time.thread_time()
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        return time.thread_time() - begin

    for _ in range(5):
        step()
    seconds: dict[str, list[float]] = {"bare": [], "never armed": [], "armed": [], "disarmed again": []}
    for _ in range(rounds):
        seconds["bare"].append(step())
        with loopscope.attach(model, optimizer, port=None, log_events=False, inplace_armed_steps=0):
            step()
            step()
            seconds["never armed"].append(step())
        with loopscope.attach(model, optimizer, port=None, log_events=False, inplace_armed_steps=2):
            step()
            seconds["armed"].append(step())
            seconds["disarmed again"].append(step())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    bare = medians.pop("bare")
    return bare * 1e3, {name: median / bare for name, median in medians.items()}


def main() -> None:
    """Print a line for each network."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    networks: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
        "transformer of width 128": lambda: transformer(128),
        "transformer of width 64": lambda: transformer(64),
        "small layers": small_layers,
    }
    for name, make in networks.items():
        bare, ratios = measure(make, rounds)
        print(f"{name}: bare {bare:.2f} ms; " + ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in ratios.items()))


if __name__ == "__main__":
    main()
