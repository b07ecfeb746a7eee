"""Programs that wait for the device nowhere. They get the agent, which itself is not to be counted either."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler


class _Readings(Dataset):
    """Reads its tensors on the host, as a data set may."""

    def __len__(self):
        return 12

    def __getitem__(self, index: int):
        x = torch.full((4,), float(index))
        mask = x > 100
        x[mask] = x[mask] + 1
        assert x.sum().item() == x.numpy().sum()
        return x.clone(), int(x.mean())


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor):
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def _model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))


def loader(agent: Any):
    model = _model()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):
        for x, _ in DataLoader(_Readings(), batch_size=4, shuffle=True):
            _train(model, optimizer, x)


def loader_with_workers(agent: Any):
    model = _model()
    optimizer = torch.optim.Adam(model.parameters())
    for x, _ in DataLoader(_Readings(), batch_size=4, shuffle=True, num_workers=2):
        _train(model, optimizer, x)


def loader_with_sampler_and_collate(agent: Any):
    def collate(samples: list[Any]):
        return torch.stack([x for x, _ in samples]), max(int(torch.tensor(label)) for _, label in samples)

    sampler = WeightedRandomSampler([1.0] * 12, 12)
    for x, largest in DataLoader(_Readings(), batch_size=4, sampler=sampler, collate_fn=collate, drop_last=True):
        assert x.shape == (4, 4)
        assert largest >= 0


def loss_summed_on_the_device(agent: Any):
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total = torch.zeros(())
    for x in torch.ones(5, 6, 4):
        total += _train(model, optimizer, x)
    return total / 5


def where_and_masked_fill(agent: Any):
    x = torch.randn(4, 4, requires_grad=True)
    mask = x > 0
    y = torch.where(mask, x, -x).masked_fill(~mask, 0.0) * mask
    y.sum().backward()
    scores = torch.randn(4, 4)
    scores.masked_fill_(torch.triu(torch.ones(4, 4, dtype=torch.bool), 1), float("-inf"))
    scores[scores < -1] = 0.0
    return scores.softmax(-1)


def integer_indices(agent: Any):
    x, rows = torch.randn(5, 4, requires_grad=True), torch.tensor([0, 3, 3])
    y = x[rows] + x.index_select(0, rows) + x[rows, :] + x[2] + x[-1:]
    y.sum().backward()
    z = torch.zeros(5, 4)
    z[rows] = 1.0
    z.index_add_(0, rows, torch.ones(3, 4))
    return z.gather(1, torch.zeros(5, 1, dtype=torch.long)), functional.embedding(rows, z)


def optimizers(agent: Any):
    for make in (
        lambda p: torch.optim.Adam(p, amsgrad=True),
        lambda p: torch.optim.AdamW(p, foreach=False),
        lambda p: torch.optim.AdamW(p, foreach=True),
        lambda p: torch.optim.Adam(p, fused=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=False),
        torch.optim.Adagrad,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Adamax,
        torch.optim.RMSprop,
        torch.optim.Adadelta,
        lambda p: torch.optim.NAdam(p, foreach=False),
        lambda p: torch.optim.RAdam(p, foreach=False),
        torch.optim.Rprop,
    ):
        model = _model()
        optimizer = make(model.parameters())
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        for x in torch.ones(3, 6, 4):
            _train(model, optimizer, x)
            scheduler.step()


def known_shapes(agent: Any):
    labels = torch.tensor([0, 2, 1])
    functional.one_hot(labels, num_classes=3)
    functional.one_hot(labels, 3)
    functional.cross_entropy(torch.randn(3, 4, requires_grad=True), labels).backward()
    functional.nll_loss(torch.randn(3, 4).log_softmax(-1), labels)
    torch.ones(3).repeat_interleave(2)
    torch.randn(4, 4).topk(2)
    return torch.randn(4).sort(), torch.randn(4).argmax(), torch.arange(3), torch.randperm(4)


def transformer(agent: Any):
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    optimizer = torch.optim.AdamW(model.parameters())
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    for x in torch.randn(3, 2, 5, 8):
        loss = model(x, mask=mask, is_causal=True).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def recurrent(agent: Any):
    model = nn.LSTM(4, 8, 2, batch_first=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in torch.randn(3, 2, 5, 4):
        model(x)[0].square().mean().backward()
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def convolutions(agent: Any):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(2))
    model(torch.randn(2, 3, 8, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in torch.randn(3, 2, 3, 8, 8):
        _train(model, optimizer, x)


def autocast(agent: Any):
    model = _model()
    optimizer = torch.optim.AdamW(model.parameters())
    for x in torch.ones(3, 6, 4):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(x).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def accumulation(agent: Any):
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for index, x in enumerate(torch.ones(8, 6, 4)):
        (model(x).square().mean() / 4).backward()
        if index % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()


def logged(agent: Any):
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in torch.ones(4, 6, 4):
        loss = _train(model, optimizer, x)
        agent.log(loss=loss, accuracy=loss * 2, samples=6, tokens=24)
    agent.epoch()


def moved_to_the_device(agent: Any):
    device = "cpu"
    model = _model().to(device)
    optimizer = torch.optim.Adam(model.parameters())
    for x in torch.ones(3, 6, 4):
        _train(model, optimizer, x.to(device, non_blocking=True).to(torch.float32))
        _train(model, optimizer, x.to(device=device))
    return model.to(torch.device(device)), x.to(x), x.type_as(x)


def values_of_the_host(agent: Any):
    rates = np.linspace(0, 1, 4)
    x = torch.from_numpy(rates)
    shape = x.shape[0] if x.ndim else 0
    return x * float(rates[0]), x[:shape], torch.full((3,), rates.mean()), len(x), x.numel(), bool(x.requires_grad)


def written_in_parts(agent: Any):
    x = torch.ones(4, requires_grad=True)
    y = x.exp()
    y.data[::2].mul_(1.0)  # what watches in-place operations has to look which elements were written
    y[1:3].sum().backward()
    scaled = torch.ones(4, requires_grad=True) * 2
    kept = scaled.exp()
    kept.data.copy_(kept.data.clone())  # and whether they have changed
    kept.sum().backward()


def sampled_with_checks_on_the_device(agent: Any):
    return torch.multinomial(torch.ones(4), 2)


def saved_and_averaged(agent: Any):
    model = _model()
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in torch.ones(3, 6, 4):
        _train(model, optimizer, x)
    model.load_state_dict(model.state_dict())
    with torch.no_grad():
        model.eval()(torch.ones(2, 4))
    return average


def tensor_data_set(agent: Any):
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for (x,) in DataLoader(TensorDataset(torch.ones(12, 4)), batch_size=4, shuffle=True):
        _train(model, optimizer, x)
