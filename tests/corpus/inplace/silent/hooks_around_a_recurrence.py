"""States in slices of one tensor, under saved-tensor hooks that stay on for the whole training step.

Seanny123/da-rnn#14 for the slices, pytorch/pytorch#64729 for hooks that repack what is saved.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


def make(is_reference=False):
    cell = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(cell.parameters(), lr=0.1)

    def unroll(x):
        if is_reference:
            states = [x, torch.tanh(cell(x))]
            states.append(torch.tanh(cell(states[1])) + states[1])
            return torch.stack(states[1:]).square().mean()
        state = x.clone()
        total = 0.0
        for time in range(2):
            new = torch.tanh(cell(state))  # saver
            state[:] = new + state if time else new  # culprit
            total = total + state.square().mean() / 2  # saver
        return total

    def step(_):
        optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda packed: packed):
            loss = unroll(torch.randn(6, 4))
            loss.backward()
        optimizer.step()

    return cell, optimizer, step
