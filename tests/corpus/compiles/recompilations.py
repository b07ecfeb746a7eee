"""Programs that torch.compile compiles again; `# -> kind category` marks the line an event has to name.

`info` before the kind is the severity where it is not `warning`, `x2` behind it how often the event is to come. What is
expected was derived from PyTorch's semantics: a frame is compiled for the first call, and again for each call that no
variant there is fits; a size that changed once is dynamic from then on, but for 0 and 1.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.linear(x))


def another_batch_size(compiler):
    class Net(_Net):
        def forward(self, x):  # -> recompilation shape
            return super().forward(x)

    compiled = compiler(Net())
    for size in (16, 12, 9):
        compiled(torch.ones(size, 4)).sum().backward()


def last_batch_of_one(compiler):
    @compiler  # -> recompilation batch_of_one
    def double(x):
        return x * 2

    double(torch.ones(16, 4))
    double(torch.ones(1, 4))


def shrinking_to_one(compiler):
    def double(x):  # -> recompilation shape, recompilation batch_of_one
        return x * 2

    compiled = compiler(double)
    for size in (16, 12, 1):
        compiled(torch.ones(size, 4))


def longer_sequences(compiler):
    def double(x):  # -> recompilation shape
        return x * 2

    compiled = compiler(double)
    for length in (10, 11, 12):
        compiled(torch.ones(4, length))


def another_dtype(compiler):
    def double(x):  # -> recompilation dtype
        return x * 2

    compiled = compiler(double)
    compiled(torch.ones(4))
    compiled(torch.ones(4, dtype=torch.float64))


def int_argument(compiler):
    def scale(x, factor):  # -> recompilation python_scalar
        return x * factor

    compiled = compiler(scale)
    for factor in (3, 5, 7):
        compiled(torch.ones(4), factor)


def float_argument(compiler):
    def scale(x, factor):  # -> recompilation python_scalar
        return x * factor

    compiled = compiler(scale)
    for factor in (0.5, 0.25, 0.125):
        compiled(torch.ones(4), factor)


def string_argument(compiler):
    def reduce(x, how):  # -> recompilation python_scalar
        return x.sum() if how == "sum" else x.mean()

    compiled = compiler(reduce)
    compiled(torch.ones(4), "sum")
    compiled(torch.ones(4), "mean")


def counter_in_a_module(compiler):
    class Net(_Net):
        def __init__(self) -> None:
            super().__init__()
            self.num_calls = 0

        def forward(self, x):  # -> recompilation python_scalar x2
            self.num_calls += 1
            return super().forward(x) * self.num_calls

    compiled = compiler(Net())
    for _ in range(3):
        compiled(torch.ones(2, 4))


def type_of_an_argument(compiler):
    def scale(x, factor):  # -> recompilation type
        return x * factor

    compiled = compiler(scale)
    compiled(torch.ones(4), 3)
    compiled(torch.ones(4), torch.tensor(3.0))


def optional_argument(compiler):
    def mask(x, keep=None):  # -> recompilation type
        return x + 1 if keep is None else x * keep

    compiled = compiler(mask)
    compiled(torch.ones(4))
    compiled(torch.ones(4), torch.zeros(4))


def list_length(compiler):
    def total(xs):  # -> recompilation list_length
        return sum(xs)

    compiled = compiler(total)
    compiled([torch.ones(4), torch.zeros(4)])
    compiled([torch.ones(4), torch.zeros(4), torch.ones(4)])


def empty_list(compiler):
    def total(x, more):  # -> recompilation list_length
        return x + sum(more) if more else x + 1

    compiled = compiler(total)
    compiled(torch.ones(4), [])
    compiled(torch.ones(4), [torch.ones(4)])


def requires_grad(compiler):
    def double(x):  # -> recompilation requires_grad
        return x * 2

    compiled = compiler(double)
    compiled(torch.ones(4))
    compiled(torch.ones(4, requires_grad=True))


def frozen_after_warm_up(compiler):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    compiled = compiler(model)
    for is_trained in (True, False):
        model.requires_grad_(is_trained)
        compiled(torch.ones(2, 4))  # -> recompilation requires_grad


def memory_layout(compiler):
    def double(x):  # -> recompilation memory_layout
        return x * 2

    compiled = compiler(double)
    compiled(torch.ones(3, 3))
    compiled(torch.ones(3, 3).t())


def global_state(compiler):
    def product(x):  # -> recompilation global_state
        return x @ x

    compiled = compiler(product)
    compiled(torch.ones(3, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compiled(torch.ones(3, 3))


def default_dtype(compiler):
    def double(x):  # -> recompilation global_state
        return x * 2

    compiled = compiler(double)
    compiled(torch.ones(4))
    torch.set_default_dtype(torch.float64)
    try:
        compiled(torch.ones(4, dtype=torch.float32))
    finally:
        torch.set_default_dtype(torch.float32)


def sequential(compiler):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    compiled = compiler(model)
    for size in (16, 12, 1):
        compiled(torch.ones(size, 4))  # -> recompilation shape, recompilation batch_of_one


def module_compiled_in_place(compiler):
    class Net(_Net):
        def forward(self, x):  # -> recompilation shape
            return super().forward(x)

    model = Net()
    model.compile(backend=compiler.keywords["backend"])
    for size in (4, 8):
        model(torch.ones(size, 4)).sum().backward()


def closure(compiler):
    for factor in (2, 3):

        def scale(x):  # -> recompilation python_scalar
            return x * factor  # noqa: B023 - called at once

        compiler(scale)(torch.ones(4))


def kept_last_batch(compiler):
    class Net(_Net):
        def forward(self, x):  # -> recompilation shape
            return super().forward(x)

    model = Net()
    compiled = compiler(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for batch in DataLoader(torch.ones(20, 4), batch_size=8, drop_last=False):
            compiled(batch).sum().backward()
            optimizer.step()
            optimizer.zero_grad()


def last_batch_after_an_evaluation(compiler):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.dropout = nn.Linear(4, 4), nn.Dropout(0.1)

        def forward(self, x):  # -> info recompilation train_eval, recompilation shape
            return self.dropout(self.linear(x))

    model = Net()
    compiled = compiler(model)
    compiled(torch.ones(16, 4)).sum().backward()
    model.eval()
    with torch.no_grad():
        compiled(torch.ones(16, 4))
    model.train()
    compiled(torch.ones(12, 4)).sum().backward()  # the newest variant is the one for evaluation


def model_and_loss(compiler):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    compiled = compiler(model)

    @compiler  # -> recompilation shape
    def loss(output, target):
        return (output - target).square().mean()

    for size in (8, 4):
        output = compiled(torch.ones(size, 4))  # -> recompilation shape
        loss(output, torch.zeros(size, 4)).backward()
