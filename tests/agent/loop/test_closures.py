"""Laws of closures and of steps that raise: one step is one report, and what failed leaves no trace in the next."""

from __future__ import annotations

import pytest
import torch
from tests.loops import batch, network, watch
from torch import nn
from torch.optim import LBFGS, SGD, Optimizer


class _Trainer:
    """A model, an optimizer, and a closure whose losses are kept."""

    def __init__(self, make) -> None:
        self.model = network()
        self.optimizer: Optimizer = make(self.model.parameters())
        self.losses: list[float] = []
        self.num_failures = 0
        self.seed = 0

    def closure(self):
        """Zero, forward, backward; raise as often as `num_failures` says."""
        self.optimizer.zero_grad()
        loss = self.model(batch(self.seed)).square().mean()
        loss.backward()
        self.losses.append(loss.item())
        if self.num_failures:
            self.num_failures -= 1
            raise RuntimeError("the user's")
        return loss


class _Failing(SGD):
    """An optimizer whose step fails once."""

    has_failed = False

    def step(self, closure=None):
        """Fail, then work."""
        if not self.has_failed:
            self.has_failed = True
            raise RuntimeError("the user's")
        return super().step(closure)


class _Twice(SGD):
    """An optimizer that evaluates its closure twice."""

    def step(self, closure=None):
        """Evaluate, then evaluate again and step."""
        closure()
        return super().step(closure)


def _sgd(parameters):
    return SGD(parameters, 0.1)


def _lbfgs(parameters):
    return LBFGS(parameters, 0.1, max_iter=4)


@pytest.mark.parametrize("make", [_sgd, _lbfgs])
@pytest.mark.parametrize("is_keyword", [False, True])
def test_step_with_a_closure_reports_its_first_evaluation(make, is_keyword):
    """Loss and gradients are those at the weights before the step; the closure's further calls change neither."""
    trainer = _Trainer(make)
    expected = []

    with watch(trainer.model, trainer.optimizer) as watched:
        for trainer.seed in range(3):
            reference = network()
            reference.load_state_dict(trainer.model.state_dict())
            loss = reference(batch(trainer.seed)).square().mean()
            loss.backward()
            expected.append((loss.item(), float(torch.nn.utils.get_total_norm(p.grad for p in reference.parameters()))))
            if is_keyword:
                trainer.optimizer.step(closure=trainer.closure)
            else:
                trainer.optimizer.step(trainer.closure)

        assert [(report.step, report.skipped) for report in watched.reports] == [(0, None), (1, None), (2, None)]
        assert [report.loss for report in watched.reports] == [loss for loss, _ in expected]
        norms = [report.gradients.global_norm for report in watched.reports]
        assert norms == pytest.approx([norm for _, norm in expected], rel=1e-5)


def test_each_evaluation_of_a_closure_is_a_micro_step():
    """A step of LBFGS has as many micro-steps as its closure made backwards."""
    trainer = _Trainer(_lbfgs)

    with watch(trainer.model, trainer.optimizer) as watched:
        trainer.optimizer.step(trainer.closure)

        assert watched.only.micro_steps == len(trainer.losses) > 1


def test_closure_without_a_backward_takes_the_loss_of_the_backward_before():
    """A closure that only returns a loss leaves the step with the backward that came before it."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)

    with watch(model, optimizer) as watched:
        loss = model(batch()).square().mean()
        loss.backward()
        optimizer.step(lambda: loss)

        assert (watched.only.loss, watched.only.micro_steps) == (loss.item(), 1)


@pytest.mark.parametrize("make", [_sgd, _lbfgs])
@pytest.mark.parametrize("num_failures", [1, 2])
def test_step_after_a_closure_that_raised_is_right(make, num_failures):
    """What a closure had done before it raised is in no report."""
    trainer = _Trainer(make)

    with watch(trainer.model, trainer.optimizer) as watched:
        trainer.num_failures = num_failures
        for _ in range(num_failures):
            with pytest.raises(RuntimeError, match="the user's"):
                trainer.optimizer.step(trainer.closure)
        trainer.losses.clear()
        trainer.optimizer.step(trainer.closure)

        assert (watched.only.step, watched.only.loss) == (0, trainer.losses[0])
        assert watched.only.micro_steps == len(trainer.losses)


def test_step_after_a_late_evaluation_that_raised_is_right():
    """The same where the first evaluation of the closure had gone well."""
    trainer = _Trainer(lambda parameters: _Twice(parameters, 0.1))

    def fail_late():
        trainer.num_failures = len(trainer.losses)
        return trainer.closure()

    with watch(trainer.model, trainer.optimizer) as watched:
        with pytest.raises(RuntimeError, match="the user's"):
            trainer.optimizer.step(fail_late)
        trainer.num_failures = 0
        trainer.losses.clear()
        trainer.optimizer.step(trainer.closure)

        assert (watched.reports[-1].step, watched.reports[-1].loss) == (0, trainer.losses[0])
        assert watched.reports[-1].micro_steps == len(trainer.losses)


def test_step_after_one_that_raised_is_right():
    """A step that raised, whose gradients the loop zeroes, is a hand-written skip; the next has its own loss alone."""
    model = network()
    optimizer = _Failing(model.parameters(), 0.1)

    with watch(model, optimizer) as watched:
        model(batch(0)).square().mean().backward()
        with pytest.raises(RuntimeError, match="the user's"):
            optimizer.step()
        optimizer.zero_grad()
        loss = model(batch(1)).square().mean()
        loss.backward()
        optimizer.step()

        assert [(report.step, report.skipped) for report in watched.reports] == [(0, "manual"), (0, None)]
        assert (watched.reports[1].loss, watched.reports[1].micro_steps) == (loss.item(), 1)


def test_gradients_left_by_a_step_that_raised_count_with_the_next():
    """Without zero_grad the gradients add up, and so do the backwards and their losses."""
    model = network()
    optimizer = _Failing(model.parameters(), 0.1)
    losses = []

    with watch(model, optimizer) as watched:
        for seed in range(2):
            loss = model(batch(seed)).square().mean()
            loss.backward()
            losses.append(loss.item())
            if seed == 0:
                with pytest.raises(RuntimeError, match="the user's"):
                    optimizer.step()
        optimizer.step()

        assert watched.only.micro_steps == 2
        assert watched.only.loss == pytest.approx(sum(losses), rel=1e-6)


def test_step_after_a_backward_that_raised_is_right():
    """A backward that raised is over; the step after it and its backward are seen as usual."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    is_failing = True

    def fail(gradient):
        if is_failing:
            raise RuntimeError("the user's")
        return gradient

    model[2].bias.register_hook(fail)

    with watch(model, optimizer) as watched:
        with pytest.raises(RuntimeError, match="the user's"):
            model(batch(0)).square().mean().backward()
        optimizer.zero_grad()
        is_failing = False
        loss = model(batch(1)).square().mean()
        loss.backward()
        optimizer.step()

        assert (watched.reports[-1].step, watched.reports[-1].loss) == (0, loss.item())
        assert watched.reports[-1].micro_steps == 1


def test_second_step_without_a_backward_has_no_loss():
    """A step that no backward preceded knows no loss: the last one's was another step's."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)

    with watch(model, optimizer) as watched:
        model(batch()).square().mean().backward()
        optimizer.step()
        optimizer.step()

        assert [report.step for report in watched.reports] == [0, 1]
        assert [report.micro_steps for report in watched.reports] == [1, 0]
        assert watched.reports[1].loss is None
        assert sum(report.num_micro_steps for report in watched.reports) == 1


def test_steps_of_a_module_that_steps_in_its_forward_are_seen():
    """Where a step lies in the code is of no concern: one inside a module's forward is seen as well."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)

    class Trainer(nn.Module):
        def forward(self, inputs):
            model(inputs).mean().backward()
            optimizer.step()

    with watch(model, optimizer) as watched:
        Trainer()(batch())

        assert watched.only.step == 0
