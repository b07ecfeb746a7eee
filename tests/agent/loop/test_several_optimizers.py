"""Laws of loops with several optimizers: each step has one owner, and nobody skips for another."""

from __future__ import annotations

import pytest
import torch
from tests.loops import NUM_IN, batch, network, watch
from torch import nn
from torch.optim import SGD, Adam


def test_zeroing_what_was_never_filled_is_no_skip():
    """Between two backwards of one optimizer, another that has no gradients yet may be zeroed."""
    models = {"generator": network(0), "critic": network(1)}
    optimizers = {name: SGD(model.parameters(), 0.1) for name, model in models.items()}

    with watch(models, optimizers) as watched:
        models["critic"](batch(0)).mean().backward()
        optimizers["generator"].zero_grad()
        models["critic"](batch(1)).mean().backward()
        optimizers["critic"].step()

        assert [(report.optimizer, report.skipped) for report in watched.reports] == [("critic", None)]


def test_discarded_gradients_of_a_gan_are_no_skip():
    """The generator's backward fills the discriminator's gradients, which are zeroed: that skips no step."""
    generator, critic = nn.Linear(2, NUM_IN), network(1)
    optimizers = {"generator": SGD(generator.parameters(), 0.1), "critic": SGD(critic.parameters(), 0.1)}
    noise = torch.randn(5, 2)

    with watch({"generator": generator, "critic": critic}, optimizers) as watched:
        for seed in range(3):
            optimizers["critic"].zero_grad()
            (critic(batch(seed)).mean() - critic(generator(noise).detach()).mean()).backward()
            optimizers["critic"].step()
            optimizers["generator"].zero_grad()
            critic(generator(noise)).mean().backward()
            optimizers["generator"].step()

        assert [(report.optimizer, report.step) for report in watched.reports] == [
            (name, step) for step in range(3) for name in ("critic", "generator")
        ]
        assert all(report.skipped is None and report.micro_steps == 1 for report in watched.reports)


def test_two_optimizers_that_share_a_backward_both_report_its_loss():
    """Optimizers of two halves of a model each have their own gradients, and the loss of the backward they share."""
    model = network()
    optimizers = {"first": SGD(model[0].parameters(), 0.1), "last": Adam(model[2].parameters(), 0.1)}

    with watch(model, optimizers) as watched:
        for seed in range(2):
            loss = model(batch(seed)).square().mean()
            loss.backward()
            for optimizer in optimizers.values():
                optimizer.step()
            for optimizer in optimizers.values():
                optimizer.zero_grad()

        reports = watched.reports
        assert [report.optimizer for report in reports] == ["first", "last"] * 2
        assert [report.skipped for report in reports] == [None] * 4
        assert {report.loss for report in reports[2:]} == {loss.item()}
        assert [report.gradients.names for report in reports[:2]] == [("0.weight", "0.bias"), ("2.weight", "2.bias")]


def test_two_optimizers_that_were_not_given_are_told_apart():
    """Optimizers found by their parameters count their own steps, under labels that differ."""
    model = network()
    optimizers = [SGD(model[0].parameters(), 0.1), SGD(model[2].parameters(), 0.1)]

    with watch(model) as watched:
        for seed in range(2):
            model(batch(seed)).mean().backward()
            for optimizer in optimizers:
                optimizer.step()

        labels = [report.optimizer for report in watched.reports]
        assert labels[0] != labels[1]
        assert labels == labels[:2] * 2
        assert [report.step for report in watched.reports] == [0, 0, 1, 1]


def test_two_agents_in_one_thread_do_not_disturb_each_other():
    """Two loops that take turns in a thread report the steps and losses of their own."""
    pairs = [(model := network(seed), SGD(model.parameters(), 0.1)) for seed in range(2)]
    losses: list[list[float]] = [[], []]

    with watch(*pairs[0]) as first, watch(*pairs[1]) as second:
        for seed in range(3):
            for (model, optimizer), kept in zip(pairs, losses, strict=True):
                optimizer.zero_grad()
                loss = model(batch(seed)).square().mean()
                loss.backward()
                optimizer.step()
                kept.append(loss.item())

        for watched, kept in zip((first, second), losses, strict=True):
            assert [report.loss for report in watched.reports] == kept
            assert [(report.skipped, report.micro_steps) for report in watched.reports] == [(None, 1)] * 3


def test_optimizers_inside_the_backward_are_one_step_a_backward():
    """Optimizers that step in hooks of the backward and free the gradients make one step, with all norms."""
    model = network()
    optimizers = {parameter: SGD([parameter], 0.1) for parameter in model.parameters()}
    norms: dict[int, float] = {}

    def step(parameter: nn.Parameter) -> None:
        norms[id(parameter)] = float(parameter.grad.norm())
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)

    with watch(model) as watched:
        for seed in range(3):
            loss = model(batch(seed)).square().mean()
            loss.backward()

        assert [(report.step, report.skipped, report.micro_steps) for report in watched.reports] == [
            (step, None, 1) for step in range(3)
        ]
        last = watched.reports[-1]
        assert last.loss == loss.item()
        found = dict(zip(last.gradients.names, last.gradients.norms.tolist(), strict=True))
        expected = {name: norms[id(parameter)] for name, parameter in model.named_parameters()}
        assert found == pytest.approx(expected, rel=1e-5)
