"""Programs that compile a learning rate in: an optimizer's, or what a user calls so. Marks as in `recompilations`."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.sgd import sgd


def float_learning_rate(compiler):
    model = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    @compiler
    def step():
        optimizer.step()  # -> info graph_break optimizer_step, recompilation learning_rate

    for _ in range(4):
        model(torch.ones(2, 4)).sum().backward()
        step()
        optimizer.param_groups[0]["lr"] *= 0.5


def scheduled_optimizer(compiler):
    model = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    step = compiler(optimizer.step)
    for _ in range(4):
        model(torch.ones(2, 4)).sum().backward()
        step()  # -> info graph_break optimizer_step, recompilation learning_rate
        scheduler.step()


def rates_of_the_users(compiler):
    class Settings:
        lr = 0.1

    def update(x, lr, settings, rates):  # -> recompilation python_scalar
        return x - lr * settings.lr * rates["lr"]

    compiled = compiler(update)
    for lr in (0.1, 0.01, 0.001):
        compiled(torch.ones(4), lr, Settings(), {"lr": 0.1})


def rate_of_an_optimizers_function(compiler):
    def call(rate):
        flags = {"nesterov": False, "maximize": False, "foreach": False}
        numbers = {"weight_decay": 0.0, "momentum": 0.0, "dampening": 0.0}
        update([torch.ones(4)], [torch.ones(4)], [None], lr=rate, **flags, **numbers)  # -> recompilation learning_rate

    update = compiler(sgd)
    for rate in (0.1, 0.2):
        call(rate)
