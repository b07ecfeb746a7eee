"""The training loops that the benchmark times: two large models, one of many tiny tensors, one of tiny steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader, Dataset

__all__ = ["WORKLOADS", "TrainingLoop", "Workload"]

_STEPS_PER_PASS = 500
_LEARNING_RATE = 1e-5
"""So low that long runs on random labels stay where they began: neither denormal nor infinite gradients."""


@dataclass(frozen=True)
class Workload:
    """A training loop by name; `make` builds it anew, the same each time."""

    name: str
    title: str
    make: Callable[[], TrainingLoop]


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """A pass of `_STEPS_PER_PASS` ready-made batches, so that loading costs next to nothing."""

    def __init__(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return _STEPS_PER_PASS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._batches[index % len(self._batches)]


class TrainingLoop:
    """A model, its optimizer and a DataLoader, trained some steps at a time; passes go on across calls of `run`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        batches: Sequence[tuple[Tensor, Tensor]],
        *,
        max_norm: float | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.before_step: Callable[[], None] | None = None
        """What a contender does between the backward and the step."""
        self._max_norm = max_norm
        self._serve(batches)

    def to(self, device: str) -> TrainingLoop:
        """Move the model and the ready-made batches to a device; before the first step."""
        self.model.to(device)
        self._serve([(inputs.to(device), targets.to(device)) for inputs, targets in self._ready])
        return self

    def _serve(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._ready = batches
        self._batches = _endless(DataLoader(_Batches(batches), batch_size=None))
        self._validation = DataLoader(_Batches(batches[:1]), batch_size=None)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that are trained."""
        return list(self.model.parameters())

    def run(self, num_steps: int) -> None:
        """Train `num_steps` steps."""
        for _ in range(num_steps):
            self.step()

    def pause_over(self) -> None:
        """Look at a validation batch: a pause before it counts for no step of those who time them by the wall."""
        next(iter(self._validation))

    def step(self) -> None:
        """Train one step, as a user would write it."""
        inputs, targets = next(self._batches)
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        if self._max_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._max_norm)
        if self.before_step is not None:
            self.before_step()
        self.optimizer.step()


def _endless(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


class _ResidualBlock(nn.Module):
    def __init__(self, num_inputs: int, num_outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_inputs, num_outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_outputs)
        self.conv2 = nn.Conv2d(num_outputs, num_outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_outputs)
        is_same = stride == 1 and num_inputs == num_outputs
        self.shortcut: nn.Module = nn.Identity()
        if not is_same:
            self.shortcut = nn.Sequential(
                nn.Conv2d(num_inputs, num_outputs, 1, stride, bias=False), nn.BatchNorm2d(num_outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def _resnet() -> TrainingLoop:
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    width = 64
    for next_width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [_ResidualBlock(width, next_width, stride), _ResidualBlock(next_width, next_width, 1)]
        width = next_width
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, 1, 1, bias=False),  # the usual stem for 32x32: no stride, no pooling
        nn.BatchNorm2d(64),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    batches = [(torch.randn(32, 3, 32, 32), torch.randint(10, (32,))) for _ in range(8)]
    return TrainingLoop(model, SGD(model.parameters(), lr=_LEARNING_RATE, momentum=0.9), batches)


class _Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        num_batch, length, width = x.shape
        heads = self.qkv(x).view(num_batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        projected: Tensor = self.out(mixed.transpose(1, 2).reshape(num_batch, length, width))
        return projected


class _TransformerBlock(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(width, num_heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        mixed: Tensor = x + self.mlp(self.norm2(x))
        return mixed


class _Gpt(nn.Module):
    """Like GPT-2, with the output tied to the token embedding."""

    def __init__(self, vocabulary: int, length: int, width: int, num_heads: int, num_blocks: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[_TransformerBlock(width, num_heads) for _ in range(num_blocks)])
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return functional.linear(self.norm(self.blocks(x)), self.tokens.weight).flatten(0, 1)


def _gpt() -> TrainingLoop:
    torch.manual_seed(0)
    vocabulary, length = 4_096, 128
    model = _Gpt(vocabulary, length, width=384, num_heads=6, num_blocks=6)
    batches = [(torch.randint(vocabulary, (4, length)), torch.randint(vocabulary, (4 * length,))) for _ in range(8)]
    return TrainingLoop(model, AdamW(model.parameters(), lr=_LEARNING_RATE), batches, max_norm=1.0)


class _Bottleneck(nn.Module):
    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, inner_width), nn.Linear(inner_width, width)

    def forward(self, x: Tensor) -> Tensor:
        widened: Tensor = self.up(torch.tanh(self.down(x)))
        return x + 0.1 * widened


def _tiny_tensors() -> TrainingLoop:
    torch.manual_seed(0)
    inner_widths = (8, 16, 24, 32, 48)  # several shapes, as models with many small tensors have
    model = nn.Sequential(*[_Bottleneck(16, inner_widths[i % len(inner_widths)]) for i in range(500)])
    batches = [(torch.randn(4, 16), torch.randint(16, (4,))) for _ in range(64)]
    return TrainingLoop(model, SGD(model.parameters(), lr=_LEARNING_RATE), batches)


def _tiny_step() -> TrainingLoop:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    batches = [(torch.randn(32, 64), torch.randint(10, (32,))) for _ in range(64)]
    return TrainingLoop(model, SGD(model.parameters(), lr=_LEARNING_RATE, momentum=0.9), batches)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("resnet", "ResNet-18-like, batch 32 of 32x32", _resnet),
        Workload("gpt", "GPT-like, sequence 128, batch 4, AdamW and clipping", _gpt),
        Workload("tiny_tensors", "2,000 tiny tensors, batch 4", _tiny_tensors),
        Workload("tiny_step", "small MLP, a step of about 0.4 ms", _tiny_step),
    )
}
