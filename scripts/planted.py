"""A training loop that goes wrong after a while: `make stack` runs it, to see the alert that comes of it."""

from __future__ import annotations

import argparse
import itertools
import math
import time

import torch
from torch import nn

import loopscope

HEALTHY_STEPS = 300
STEP_SECONDS = 0.01


def main() -> None:
    """Train for ever; after the healthy steps a NaN in a layer, a line that waits again and again, or no more steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("anomaly", choices=("nan", "syncs", "stall"))
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loopscope.attach(model, optimizer, port=arguments.port, sync_device="cpu", log_events=False)
    factor = 1.0
    model[4].weight.register_hook(lambda gradient: gradient * factor)

    for step in itertools.count():
        is_wrong = step >= HEALTHY_STEPS
        if step == HEALTHY_STEPS:
            print(f"step {step}: planted {arguments.anomaly}", flush=True)
        inputs = torch.randn(32, 16)
        loss = nn.functional.cross_entropy(model(inputs), inputs[:, :4].argmax(1))
        optimizer.zero_grad()
        if is_wrong and arguments.anomaly == "nan":
            factor = math.nan
        if is_wrong and arguments.anomaly == "syncs":
            sum(value.item() for value in loss.repeat(20))  # waits for the device 20 times
        if is_wrong and arguments.anomaly == "stall":
            time.sleep(3600)
        loss.backward()
        optimizer.step()
        time.sleep(STEP_SECONDS)


if __name__ == "__main__":
    main()
