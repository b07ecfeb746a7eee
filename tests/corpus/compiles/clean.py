"""Programs that torch.compile takes as they are: nothing is worth a warning. See `recompilations` for the marks."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader


class _Net(nn.Module):
    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.dropout(torch.relu(self.linear(x)))


def fixed_batches(compiler):
    model = _Net()
    compiled = compiler(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        compiled(torch.ones(8, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def full_graph(compiler):
    compiled = compiler(_Net(), fullgraph=True)
    for _ in range(3):
        compiled(torch.ones(8, 4)).sum().backward()


def dynamic_shapes(compiler):
    compiled = compiler(_Net(), dynamic=True)
    for size in (16, 12, 8, 5):
        compiled(torch.ones(size, 4)).sum().backward()


def marked_dynamic(compiler):
    compiled = compiler(_Net())
    for size in (16, 12, 8):
        x = torch.ones(size, 4)
        torch._dynamo.mark_dynamic(x, 0)
        compiled(x).sum().backward()


def compiled_loss(compiler):
    loss = compiler(functional.mse_loss)
    model = nn.Linear(4, 1)
    for _ in range(3):
        loss(model(torch.ones(8, 4)), torch.zeros(8, 1)).backward()


def several_functions(compiler):
    first = compiler(lambda x: x + 1)
    second = compiler(lambda x: x * 2)
    for _ in range(3):
        second(first(torch.ones(4)))


def instances_of_one_class(compiler):
    for model in [_Net(), _Net(), _Net()]:
        compiled = compiler(model)
        compiled(torch.ones(8, 4)).sum().backward()


def dropped_last_batch(compiler):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    compiled = compiler(model)
    for _ in range(2):
        for batch in DataLoader(torch.ones(20, 4), batch_size=8, drop_last=True):
            compiled(batch).sum().backward()


def branch_without_branching(compiler):
    @compiler
    def clip(x):
        return torch.where(x.sum() > 0, x, -x)

    clip(torch.ones(4))
    clip(-torch.ones(4))


def tensor_learning_rate(compiler):
    model = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1))

    @compiler
    def step():
        optimizer.step()  # -> info graph_break optimizer_step

    for _ in range(3):
        model(torch.ones(2, 4)).sum().backward()
        step()
        optimizer.param_groups[0]["lr"].mul_(0.5)


def train_and_eval(compiler):
    class Net(_Net):
        def forward(self, x):  # -> info recompilation train_eval
            return super().forward(x)

    model = Net()
    compiled = compiler(model)
    for _ in range(2):
        model.train()
        compiled(torch.ones(8, 4)).sum().backward()
        model.eval()
        with torch.no_grad():
            compiled(torch.ones(8, 4))


def train_and_eval_without_dropout(compiler):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    compiled = compiler(model)
    for is_trained in (True, False, True, False):
        model.train(is_trained)
        with torch.set_grad_enabled(is_trained):
            compiled(torch.ones(8, 4))  # -> info recompilation train_eval


def inference_mode(compiler):
    class Net(_Net):
        def forward(self, x):  # -> info recompilation train_eval
            return super().forward(x)

    model = Net()
    compiled = compiler(model)
    compiled(torch.ones(8, 4)).sum().backward()
    model.eval()
    with torch.inference_mode():
        compiled(torch.ones(8, 4))


def train_and_eval_with_gradients(compiler):
    class Net(_Net):
        def forward(self, x):  # -> info recompilation train_eval
            return super().forward(x)

    model = Net()
    compiled = compiler(model)
    compiled(torch.ones(8, 4)).sum().backward()
    model.eval()
    compiled(torch.ones(8, 4))


def no_gradients(compiler):
    @compiler  # -> info recompilation global_state
    def double(x):
        return x * 2

    double(torch.ones(4, requires_grad=True)).sum().backward()
    with torch.no_grad():
        double(torch.ones(4, requires_grad=True))


def disabled_part(compiler):
    @torch.compiler.disable
    def outside(x):
        return x * 2

    @compiler
    def run(x):
        x = outside(x + 1)  # -> info graph_break disabled
        torch._dynamo.graph_break()  # -> info graph_break disabled
        return x - 1

    run(torch.ones(4))
