"""Training loops small enough for tests, one of each kind that people write; the same seed gives the same loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.unusual_workloads import UNUSUAL
from tests.workload import Workload, mlp, with_optimizer
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MAKERS"]


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


def _resnet(memory_format: torch.memory_format = torch.contiguous_format) -> Workload:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), _Block(16), _Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(1),
        nn.Linear(16, 10),
    ).to(memory_format=memory_format)  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)

    def step(_: int) -> Tensor:
        optimizer.zero_grad()
        x = torch.randn(8, 3, 12, 12).contiguous(memory_format=memory_format)
        loss = functional.cross_entropy(model(x), torch.randint(10, (8,)))
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss

    return Workload(model, optimizer, step)


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 64, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        logits: Tensor = self.head(self.blocks(self.embedding(tokens), mask=mask, is_causal=True))
        return logits


def _gpt() -> Workload:
    model = _Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(_: int) -> Tensor:
        tokens = torch.randint(64, (4, 17))
        loss = functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return loss

    return Workload(model, optimizer, step)


def _tiny_tensors() -> Workload:
    model = nn.ModuleList([nn.Linear(8, 8) for _ in range(1_000)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_: int) -> Tensor:
        x = torch.randn(4, 8)
        loss = torch.stack([layer(x).square().mean() for layer in model]).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return Workload(model, optimizer, step)


def _gan() -> Workload:
    generator, critic = mlp(), nn.Sequential(mlp(), nn.Linear(8, 1))
    for_generator = torch.optim.Adam(generator.parameters(), lr=1e-2, betas=(0.5, 0.9))
    for_critic = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.5, 0.9))

    def step(_: int) -> Tensor:
        noise, real = torch.randn(4, 8), torch.randn(4, 8)
        for_critic.zero_grad()
        critic_loss = critic(generator(noise).detach()).mean() - critic(real).mean()
        critic_loss.backward()
        for_critic.step()
        for_generator.zero_grad()
        generator_loss = -critic(generator(noise)).mean()
        generator_loss.backward()
        for_generator.step()
        return torch.stack([critic_loss, generator_loss])

    return Workload(
        {"generator": generator, "critic": critic}, {"generator": for_generator, "critic": for_critic}, step
    )


def _gradient_penalty() -> Workload:
    critic = nn.Sequential(mlp(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)

    def step(_: int) -> Tensor:
        x = torch.randn(4, 8, requires_grad=True)
        (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        loss = critic(x).mean() + (slope.norm(dim=1) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return Workload(critic, optimizer, step)


def _backward_with_graph() -> Workload:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(_: int) -> Tensor:
        loss = model(torch.randn(4, 8)).square().mean()
        loss.backward(create_graph=True)
        penalty = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum()
        penalty.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return Workload(model, optimizer, step)


def _amp(dtype: torch.dtype, optimizer_type: Callable[..., torch.optim.Optimizer], *, unscales: bool) -> Workload:
    """Two micro-steps a step; the gradients of every seventh step overflow, so that it is skipped."""
    model = nn.Sequential(mlp(), nn.LayerNorm(8), nn.Linear(8, 1))
    optimizer = optimizer_type(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=5)

    def step(index: int) -> Tensor:
        losses = []
        for _ in range(2):
            with torch.autocast("cpu", dtype=dtype):
                loss = model(torch.randn(4, 8)).float().square().mean() / 2
            scaler.scale(loss * float("inf") if index % 7 == 3 else loss).backward()
            losses.append(loss.detach())
        if unscales:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return torch.stack([*losses, torch.tensor(scaler.get_scale())])

    return Workload(model, optimizer, step)


def _lbfgs() -> Workload:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.05, max_iter=4, line_search_fn="strong_wolfe")

    def step(_: int) -> Tensor:
        x = torch.randn(16, 8)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (model(x) - x.sin()).square().mean()
            loss.backward()
            return loss

        return optimizer.step(closure)

    return Workload(model, optimizer, step)


def _compiled(backend: str) -> Workload:
    model = mlp()
    return with_optimizer(torch.compile(model, backend=backend), torch.optim.Adam(model.parameters(), lr=1e-2))


_optim = torch.optim
MAKERS: dict[str, Callable[[], Workload]] = {
    "resnet": _resnet,
    "resnet-channels-last": lambda: _resnet(torch.channels_last),
    "gpt": _gpt,
    "tiny-tensors": _tiny_tensors,
    "gan": _gan,
    "gradient-penalty": _gradient_penalty,
    "backward-with-graph": _backward_with_graph,
    "amp-bfloat16": lambda: _amp(torch.bfloat16, _optim.AdamW, unscales=True),
    "amp-float16": lambda: _amp(torch.float16, _optim.SGD, unscales=False),
    "amp-fused-adam": lambda: _amp(torch.bfloat16, lambda p, lr: _optim.Adam(p, lr=lr, fused=True), unscales=False),
    "amp-fused-adam-clipped": lambda: _amp(
        torch.bfloat16, lambda p, lr: _optim.Adam(p, lr=lr, fused=True), unscales=True
    ),
    "lbfgs": _lbfgs,
    "compiled-aot-eager": lambda: _compiled("aot_eager"),
    "compiled-inductor": lambda: _compiled("inductor"),
} | UNUSUAL
