"""Programs that train and wait where PyTorch's own Python does it for them; marks as in scalars.py."""

from __future__ import annotations

import threading
from typing import Any

import torch
from tests.corpus.syncs import elsewhere
from torch import nn


def _model():
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def _loss(model: nn.Module):
    return model(torch.ones(3, 4)).square().mean()


def grad_scaler():
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(3):
        scaler.scale(_loss(model)).backward()
        scaler.step(optimizer)  # -> item x3
        scaler.update()
        optimizer.zero_grad()
    return scaler.get_scale()  # -> item


def clipping_that_raises():
    model = _model()
    for _ in range(2):
        _loss(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)  # -> bool x2
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def plateau():
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    for _ in range(2):
        scheduler.step(_loss(model).detach())  # -> float x2


def batch_norm_without_momentum():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, momentum=None))
    return model(torch.ones(3, 4))  # -> float


def helper_of_another_file():
    return elsewhere.read(torch.ones(()))


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor):
        (x,) = ctx.saved_tensors
        return gradients[0] * (2 if x.sum().item() > 0 else 1)  # -> item (backward_of_a_function)


def backward_of_a_function():
    x = torch.ones(3, requires_grad=True)
    _Scaled.apply(x).sum().backward()


def _report(module: nn.Module, inputs: Any, output: torch.Tensor):
    assert output.mean().isfinite()  # -> bool (forward_hook)


def forward_hook():
    model = _model()
    model.register_forward_hook(_report)
    _loss(model).backward()


def gradient_hook():
    model = _model()
    model.weight.register_hook(lambda gradient: print(end="") if gradient.norm() > 1e9 else None)  # -> bool
    _loss(model).backward()


def in_a_thread():
    loss = torch.ones(())

    def work():
        loss.item()  # -> item

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def every_step():
    model = _model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(5):
        loss = _loss(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # -> item x5


def closure_of_lbfgs():
    model = _model()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=1)

    def closure():
        optimizer.zero_grad()
        loss = _loss(model)
        loss.backward()
        return loss

    optimizer.step(closure)  # -> any


def learning_rate_on_the_device():
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1), foreach=False)  # -> bool
    _loss(model).backward()
    optimizer.step()  # -> operator x2
    return optimizer.param_groups[0]["lr"].item()  # -> item


def mask_that_is_compared():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1, enable_nested_tensor=False)
    return model(torch.ones(5, 2, 8), mask=nn.Transformer.generate_square_subsequent_mask(5))  # -> bool


def packed_sequences():
    x, model = torch.randn(3, 5, 4), nn.GRU(4, 2, batch_first=True)
    for lengths in (torch.tensor([5, 3, 2]).cpu(), [5, 3, 2]):  # -> cpu
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        output, known = nn.utils.rnn.pad_packed_sequence(model(packed)[0], batch_first=True)
        known.tolist()
        output[:, : int(known.max())].sum().backward()
    return output.sum().item()  # -> item


def packed_sequences_in_any_order():
    lengths = torch.tensor([2, 5, 3], device="cpu")
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(3, 5, 4), lengths, True, enforce_sorted=False)  # -> copy
    return nn.utils.rnn.pad_packed_sequence(packed)[1].tolist()  # -> cpu


class _Gate(nn.Module):
    def forward(self, x: torch.Tensor):
        if x.sum() > 0:  # -> bool (module_that_branches)
            return x * 2
        return x


def module_that_branches():
    return nn.Sequential(nn.Linear(4, 4), _Gate())(torch.ones(3, 4))
