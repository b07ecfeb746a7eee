"""Autocast to bfloat16 with a GradScaler, which unscales gradients in place and a ReLU that works in place.

The look-alike of pytorch/pytorch#33373, values limited for half precision.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 3


def make(is_reference=False):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=not is_reference), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def step(_):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.randn(6, 4)).float().square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    return model, optimizer, step
