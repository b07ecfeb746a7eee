"""Real training loops on scikit-learn's digits: healthy ones, and ones with a single planted fault each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tests.loops import watch
from tests.training_models import BATCH_SIZE, Detached, Gpt, Lstm, SlowImages, batches, conv, digits, mlp
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from loopscope.records import StepReport

__all__ = ["FAULTS", "HEALTHY", "Fault"]

ONSET = 100
"""Step of the faults that come on the way."""


@dataclass(frozen=True)
class Fault:
    """A loop with one fault, the kinds that name it rightly, and where and when they have to."""

    run: Callable[[int], Sequence[StepReport]]
    kinds: frozenset[str]
    onset: int
    within: int
    layers: tuple[str, ...] = ()
    also: frozenset[str] = field(default_factory=frozenset)
    """What follows from it and may be told after it."""


def _train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    source: Iterable[Any],
    num_steps: int = 300,
    *,
    before: Callable[[int, Tensor], Tensor] = lambda _, images: images,
    after: Callable[[Tensor], object] = lambda _: None,
    loss_of: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    schedule: bool = False,
    clip: float | None = None,
    micro_steps: int = 1,
    zero: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Sequence[StepReport]:
    def factor(step: int) -> float:
        return (step + 1) / 30 if step < 30 else 0.5 * (1 + math.cos(math.pi * (step - 30) / num_steps))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor) if schedule else None
    batches_left = iter(source)
    with watch(model, optimizer, **(settings or {})) as watched:
        for step in range(num_steps):
            for _ in range(micro_steps):
                images, labels = next(batches_left)
                output = model(before(step, images))
                loss = (output if output.dim() == 0 else loss_of(output, labels)) / micro_steps
                loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            after(loss)
            if scheduler is not None:
                scheduler.step()
            if zero:
                optimizer.zero_grad()
        return watched.reports


def _adam(model: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr)


def _sgd(model: nn.Module, lr: float = 0.1, momentum: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr, momentum=momentum)


def _run(make: Callable[[], nn.Module], optimize: Callable[[nn.Module], Any], **options: Any) -> Callable[[int], Any]:
    sizes = {name: options.pop(name) for name in ("size", "num", "label_noise") if name in options}

    def run(seed: int) -> Sequence[StepReport]:
        torch.manual_seed(seed)
        model = make()
        return _train(model, optimize(model), batches(seed, **sizes), **options)

    return run


def _frozen_backbone() -> nn.Module:
    model = conv()
    model[:5].requires_grad_(False)
    return model


def _gan(seed: int) -> Sequence[StepReport]:
    torch.manual_seed(seed)
    generator, critic = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64)), mlp(64, 64)
    optimizers = {"generator": _adam(generator, 1e-3), "critic": _adam(critic, 1e-3)}
    with watch({"generator": generator, "critic": critic}, optimizers) as watched:
        for images, _ in itertools.islice(batches(seed), 300):
            fake = generator(torch.randn(BATCH_SIZE, 8))
            optimizers["critic"].zero_grad()
            (
                functional.softplus(critic(fake.detach())[:, 0]) + functional.softplus(-critic(images)[:, 0])
            ).mean().backward()
            optimizers["critic"].step()
            optimizers["generator"].zero_grad()
            functional.softplus(-critic(fake)[:, 0]).mean().backward()
            optimizers["generator"].step()
        return watched.reports


def _half(seed: int, *, factor: float = 1.0, scaled: bool = True) -> Sequence[StepReport]:
    torch.manual_seed(seed)
    model = mlp(64, 64)
    optimizer, scaler = _adam(model), torch.amp.GradScaler("cpu", init_scale=2.0**20, enabled=scaled)
    with watch(model, optimizer) as watched:
        for images, labels in itertools.islice(batches(seed), 300):
            with torch.autocast("cpu", dtype=torch.float16):
                loss = functional.cross_entropy(model(images), labels) * factor
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        return watched.reports


def _lbfgs(seed: int) -> Sequence[StepReport]:
    torch.manual_seed(seed)
    model, (images, labels) = mlp(32), digits()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images[:256]), labels[:256]) + 1e-3 * sum(
            parameter.square().sum() for parameter in model.parameters()
        )
        loss.backward()
        return loss

    with watch(model, optimizer) as watched:
        for _ in range(100):
            optimizer.step(closure)
        return watched.reports


def _policy_gradient(seed: int) -> Sequence[StepReport]:
    """REINFORCE on batches of four: an action is right where it is the label, and a running mean is the baseline."""
    torch.manual_seed(seed)
    model, baseline = mlp(64), 0.1
    optimizer = _adam(model)
    with watch(model, optimizer) as watched:
        for images, labels in itertools.islice(batches(seed, 4), 300):
            policy = torch.distributions.Categorical(logits=model(images))
            actions = policy.sample()
            rewards = (actions == labels).float()
            (-(rewards - baseline) * policy.log_prob(actions)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            baseline += 0.05 * (rewards.mean().item() - baseline)
        return watched.reports


HEALTHY: Mapping[str, Callable[[int], Sequence[StepReport]]] = {
    "conv_adam": _run(conv, _adam),
    "gpt_clip_schedule": _run(Gpt, lambda model: _adam(model, 3e-3), clip=1.0, schedule=True),
    "sgd_momentum_schedule": _run(lambda: mlp(64, 64), _sgd, schedule=True),
    "lstm_clip": _run(Lstm, lambda model: _adam(model, 3e-3), clip=1.0),
    "frozen_backbone": _run(_frozen_backbone, _adam),
    "gan": _gan,
    "float16": _half,
    "accumulation": _run(lambda: mlp(64, 64), _sgd, size=8, micro_steps=4),
    "lbfgs": _lbfgs,
    "policy_gradient": _policy_gradient,
    "batch_of_one": _run(lambda: mlp(64, 64), _adam, size=1),
    "tiny_learning_rate": _run(conv, lambda model: _adam(model, 1e-7)),
    "label_noise": _run(lambda: mlp(64, 64), lambda model: _adam(model, 3e-3), label_noise=0.4),
    "loss_reaches_zero": _run(lambda: mlp(64, 64), lambda model: _adam(model, 1e-2), size=16, num=64, num_steps=500),
}


def _raised_rate(
    make: Callable[[], nn.Module], optimize: Callable[[nn.Module], Any], factor: float
) -> Callable[[int], Sequence[StepReport]]:
    def run(seed: int) -> Sequence[StepReport]:
        torch.manual_seed(seed)
        model = make()
        optimizer = optimize(model)

        def before(step: int, images: Tensor) -> Tensor:
            if step == ONSET:
                for group in optimizer.param_groups:
                    group["lr"] *= factor
            return images

        return _train(model, optimizer, batches(seed), 200, before=before)

    return run


def _item_storm(seed: int) -> Sequence[StepReport]:
    torch.manual_seed(seed)
    model = conv()

    def read_all(_: Tensor) -> None:
        for parameter in model.parameters():
            parameter.sum().item()

    return _train(model, _adam(model), batches(seed), 100, after=read_all, settings={"sync_device": "cpu"})


def _slow_loader(seed: int) -> Sequence[StepReport]:
    torch.manual_seed(seed)
    model = mlp(64)
    loader = DataLoader(SlowImages(), BATCH_SIZE)
    return _train(model, _adam(model), itertools.chain.from_iterable(itertools.repeat(loader)), 60)


def _group_without_rate(model: nn.Module) -> torch.optim.Optimizer:
    (first, second), rest = list(model.parameters())[:2], list(model.parameters())[2:]
    return torch.optim.Adam([{"params": [first, second], "lr": 0.0}, {"params": rest}], 1e-3)


def _bad_batch(step: int, images: Tensor) -> Tensor:
    return images * 1_000 if step == ONSET else images


def _sigmoids() -> nn.Module:
    return mlp(*[32] * 12, activation=nn.Sigmoid)


def _to_half(_: int, images: Tensor) -> Tensor:
    return images.half()


def _tiny_half_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), labels) * 1e-3


_HIGH_RATE = frozenset({"exploding_gradient", "loss_diverging"})
_ITS_RESULTS = frozenset({"dead_layer", "update_ratio", "nonfinite_gradient", "nonfinite_loss", "vanishing_gradient"})
_SPIKES = frozenset({"gradient_spike", "loss_spike"})


def _fault(run: Callable[[int], Any], kind: str, within: int, **options: Any) -> Fault:
    return Fault(run, frozenset({kind}), **{"onset": 0} | options, within=within)


FAULTS: Mapping[str, Fault] = {
    "raised_rate_sgd": Fault(_raised_rate(conv, _sgd, 1_000), _HIGH_RATE, ONSET, 10, also=_ITS_RESULTS),
    "raised_rate_adam": Fault(_raised_rate(conv, _adam, 1_000), _HIGH_RATE, ONSET, 10, also=_ITS_RESULTS | _SPIKES),
    "raised_rate_gpt": Fault(_raised_rate(Gpt, _adam, 1_000), _HIGH_RATE, ONSET, 10, also=_ITS_RESULTS),
    "rate_becomes_zero": _fault(_raised_rate(conv, _adam, 0), "zero_learning_rate", 20, onset=ONSET),
    "rate_is_zero": _fault(_run(conv, lambda model: _adam(model, 0.0), num_steps=100), "zero_learning_rate", 20),
    "sigmoid_stack": _fault(_run(_sigmoids, _adam, num_steps=100), "vanishing_gradient", 30, layers=("0",)),
    "detached_branch": _fault(_run(Detached, _adam, num_steps=100), "dead_layer", 30, layers=("side",)),
    "no_zero_grad_sgd": _fault(
        _run(conv, lambda model: _sgd(model, 1e-3, 0.0), zero=False, num_steps=60), "accumulating_gradient", 16
    ),
    "no_zero_grad_gpt": _fault(
        _run(Gpt, lambda model: _adam(model, 3e-4), zero=False, num_steps=60), "accumulating_gradient", 16
    ),
    "bad_batch_adam": Fault(_run(conv, _adam, before=_bad_batch, num_steps=200), _SPIKES, ONSET, 1),
    "bad_batch_sgd": Fault(
        _run(lambda: mlp(64, 64), lambda m: _sgd(m, 0.01, 0.0), before=_bad_batch, num_steps=200), _SPIKES, ONSET, 1
    ),
    "half_precision": _fault(
        _run(
            lambda: mlp(64, 64).half(),
            lambda model: _sgd(model, 0.1, 0.0),
            before=_to_half,
            loss_of=_tiny_half_loss,
            num_steps=100,
        ),
        "underflow",
        60,
    ),
    "autocast_without_scaler": _fault(lambda seed: _half(seed, factor=1e-4, scaled=False), "underflow", 60),
    "group_without_rate": _fault(_run(lambda: mlp(64, 64), _group_without_rate), "frozen_layer", 100, layers=("0",)),
    "item_storm": _fault(_item_storm, "device_sync_storm", 25),
    "slow_loader": _fault(_slow_loader, "input_bound", 50),
}
