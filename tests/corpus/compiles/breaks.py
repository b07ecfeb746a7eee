"""Programs in which torch.compile leaves the graph. See `recompilations` for the marks."""

from __future__ import annotations

import time

import torch
from torch import nn


def branch_on_data(compiler):
    @compiler
    def step(x):
        x = x + 1
        if x.sum() > 0:  # -> graph_break data_dependent
            return x * 2
        return x - 1

    step(torch.ones(4))
    step(-2 * torch.ones(4))


def loop_on_data(compiler):
    @compiler
    def grow(x):
        while x.sum() < 10:  # -> graph_break data_dependent
            x = x + 1
        return x

    grow(torch.zeros(4))


def printing(compiler):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            x = self.linear(x)
            print("mean", x.shape)  # -> graph_break print
            return torch.relu(x)

    compiled = compiler(Net())
    for _ in range(2):
        compiled(torch.ones(2, 4)).sum().backward()


def item(compiler):
    @compiler
    def scale(x):
        total = x.sum().item()  # -> graph_break sync
        return x * total

    scale(torch.ones(4))


def item_in_a_helper(compiler):
    def normalised(x):
        return x / x.sum().item()  # -> graph_break sync

    @compiler
    def run(x):
        return normalised(x + 1) + 1

    run(torch.ones(4))


def list_of_a_tensor(compiler):
    @compiler
    def shift(x):
        first, *_ = x.tolist()  # -> graph_break sync
        return x + first

    shift(torch.arange(3))


def float_of_a_tensor(compiler):
    @compiler
    def scale(x):
        return x * float(x.sum())  # -> graph_break sync

    scale(torch.ones(4))


def item_that_changes(compiler):
    @compiler
    def scale(x):
        total = x.sum().item()  # -> graph_break sync, recompilation python_scalar
        return x * total

    scale(torch.ones(4))
    scale(2 * torch.ones(4))


def boolean_mask(compiler):
    @compiler
    def positive(x):
        chosen = x[x > 0]  # -> graph_break data_dependent
        return chosen + 1

    positive(torch.ones(4))


def unsupported_call(compiler):
    @compiler
    def slow(x):
        x = x + 1
        time.sleep(0)  # -> graph_break unsupported_call
        return x * 2

    slow(torch.ones(4))


def two_lines(compiler):
    @compiler
    def step(x):
        x = x + 1
        print("one")  # -> graph_break print
        x = x * x.max().item()  # -> graph_break sync
        return x - 1

    step(torch.ones(4))


def print_in_a_loop(compiler):
    @compiler
    def step(x):
        for _ in range(2):
            x = x + 1
            print("again")  # -> graph_break print
        return x

    step(torch.ones(4))


def own_context_manager(compiler):
    class Timer:
        def __enter__(self):
            time.sleep(0)  # -> graph_break unsupported_call

        def __exit__(self, *_):
            return None

    @compiler
    def step(x):
        with Timer():
            x = x + 1
        return x * 2

    step(torch.ones(4))


def break_inside_a_sequential(compiler):
    class Report(nn.Module):
        def forward(self, x):
            print("hello")  # -> graph_break print
            return x

    compiler(nn.Sequential(nn.Linear(4, 4), Report(), nn.ReLU()))(torch.ones(2, 4))
