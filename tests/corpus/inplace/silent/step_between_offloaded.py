"""The optimizer steps between two backwards through one graph, whose weights were saved by save_on_cpu.

1Konny/FactorVAE#15 for the order, pytorch/pytorch#62362 for the hooks.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


def make(is_reference=False):
    encoder, decoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), nn.Linear(2, 4)
    optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.5)

    def step(_):
        optimizer.zero_grad()
        x = torch.randn(6, 4)
        with torch.autograd.graph.save_on_cpu(pin_memory=False):
            code = encoder(x)  # saver
            output = decoder(code)
        (output - x).square().mean().backward(retain_graph=True)
        if not is_reference:
            optimizer.step()  # culprit
        optimizer.zero_grad()
        code.square().mean().backward()
        optimizer.step()

    return nn.ModuleDict({"encoder": encoder, "decoder": decoder}), optimizer, step
