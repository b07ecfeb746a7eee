"""Laws of sampled activations: what is counted, of whom, and which calls do not count."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from tests.loops import watch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.checkpoint import checkpoint

from loopscope.records import ActivationTable


class Twice(nn.Module):
    """One ReLU that is called twice, a tanh, and a sigmoid at the end; a segment may be checkpointed."""

    def __init__(self, use_reentrant: bool | None = None) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant
        self.first, self.relu, self.second = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6)
        self.tanh, self.last, self.end = nn.Tanh(), nn.Linear(6, 3), nn.Sigmoid()

    def segment(self, inputs: Tensor) -> Tensor:
        """Run what may be checkpointed."""
        return self.relu(self.second(self.relu(self.first(inputs))))

    def forward(self, inputs: Tensor) -> Tensor:
        """Run all."""
        if self.use_reentrant is None:
            hidden = self.segment(inputs)
        else:
            hidden = checkpoint(self.segment, inputs, use_reentrant=self.use_reentrant)
        return self.end(self.last(self.tanh(hidden)))


def _inputs(size: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(size, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def _sampled(model: nn.Module, *batches: Tensor, before: Any = lambda _: None) -> ActivationTable:
    """Return the table of the second step, the first one that is sampled, with a backward a batch."""
    optimizer = SGD(model.parameters(), 0.0)
    with watch(model, optimizer, activations=True) as watched:
        model(batches[0]).sum().backward()
        optimizer.step()
        before(model)
        for batch in batches:
            model(batch).square().mean().backward()
        optimizer.step()
        assert not watched.agent.internal_errors
        table = watched.reports[1].activations
    assert table is not None
    return table


def _dead(outputs: Tensor) -> float:
    return float((outputs == 0).flatten(0, -2).all(0).float().mean())


def test_shares_and_norms_are_those_of_the_outputs() -> None:
    """A row a call, in the order of the forward; a share that has no meaning is NaN."""
    torch.manual_seed(0)
    model, inputs = Twice(), _inputs()
    with torch.no_grad():
        model.second.bias[:2] = -100.0
        model.last.bias[0] = 100.0
        first = model.relu(model.first(inputs))
        second = model.relu(model.second(first))
        third = model.tanh(second)
        fourth = model.end(model.last(third))

    table = _sampled(model, inputs)

    assert table.names == ("relu[0]", "relu[1]", "tanh", "end")
    assert table.types == ("ReLU", "ReLU", "Tanh", "Sigmoid")
    assert table.num_units_A.tolist() == [8, 6, 6, 3]
    assert table.num_rows_A.tolist() == [5, 5, 5, 5]
    np.testing.assert_allclose(table.dead_ratio_A, [_dead(first), _dead(second), np.nan, np.nan])
    flat = [float((1 - third.square() <= 0.01).float().mean()), 1 / 3]
    np.testing.assert_allclose(table.saturated_ratio_A, [np.nan, np.nan, *flat], rtol=1e-6)
    norms = [float(output.double().norm()) for output in (first, second, third, fourth)]
    np.testing.assert_allclose(table.norms_A, norms, rtol=1e-5)
    assert table.is_output_A.tolist() == [False, False, False, True]


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_recomputation_does_not_count(use_reentrant: bool) -> None:
    """A checkpointed segment gives the rows of the plain one."""
    torch.manual_seed(0)
    plain = Twice()
    checkpointed = Twice(use_reentrant)
    checkpointed.load_state_dict(plain.state_dict())

    expected, table = _sampled(plain, _inputs()), _sampled(checkpointed, _inputs())

    rows = {name: table.names.index(name) for name in expected.names}
    assert set(table.names) == set(expected.names)
    for row, name in enumerate(expected.names):
        assert table.num_rows_A[rows[name]] == expected.num_rows_A[row]
        assert table.norms_A[rows[name]] == pytest.approx(expected.norms_A[row])


def test_micro_steps_are_one_sample() -> None:
    """A unit is dead where it is so in all of them."""
    torch.manual_seed(0)
    model, batches = Twice(), [_inputs(seed=1), _inputs(seed=2)]
    outputs = torch.cat([model.relu(model.first(batch)) for batch in batches])

    table = _sampled(model, *batches)

    assert table.names[0] == "relu[0]"
    assert table.num_rows_A[0] == 10
    assert table.dead_ratio_A[0] == pytest.approx(_dead(outputs))


def _evaluate(model: nn.Module) -> None:
    model.eval()
    model(_inputs())
    model.train()


def _without_gradients(model: nn.Module) -> None:
    with torch.no_grad():
        model(_inputs())


def _in_inference(model: nn.Module) -> None:
    with torch.inference_mode():
        model(_inputs().detach().clone())


def _failing(model: nn.Module) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        model(torch.randn(2, 7))


@pytest.mark.parametrize("before", [_evaluate, _without_gradients, _in_inference, _failing])
def test_only_training_forwards_count(before: Any) -> None:
    """Neither evaluations, nor a forward that raised in front of the first activation."""
    table = _sampled(Twice(), _inputs(), before=before)

    assert table.num_rows_A.tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize(
    ("layers", "shape", "num_units", "num_rows"),
    [
        ([nn.Conv2d(2, 3, 1), nn.ReLU()], (4, 2, 5, 5), 3, 100),
        ([nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.ReLU()], (4, 2, 5), 3, 20),
        ([nn.Linear(2, 3), nn.GELU()], (4, 5, 2), 3, 20),
        ([nn.Linear(2, 3), nn.LayerNorm(3), nn.ReLU()], (4, 5, 6, 2), 3, 120),
    ],
)
def test_units_are_features_or_channels(
    layers: list[nn.Module], shape: tuple[int, ...], num_units: int, num_rows: int
) -> None:
    """As the layer in front has them."""
    table = _sampled(nn.Sequential(*layers), torch.randn(shape))

    assert (table.num_units_A.tolist(), table.num_rows_A.tolist()) == ([num_units], [num_rows])


def test_units_last_where_they_are_dead_for_long() -> None:
    """Of a batch of 64 a dead unit is only called so at the second sample in a row."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([-100.0, 100.0, 100.0, 100.0]))
    optimizer = SGD(model.parameters(), 0.0)
    with watch(model, optimizer, activations=True, overhead_budget=1.0) as watched:
        for _ in range(12):
            model(torch.randn(64, 4)).mean().backward()
            optimizer.step()
        tables = [report.activations for report in watched.reports if report.activations is not None]

    assert [float(table.dead_ratio_A[0]) for table in tables][:2] == [0.25, 0.25]
    assert [float(table.lasting_dead_ratio_A[0]) for table in tables][:2] == [0.0, 0.25]


def test_steps_between_samples_have_no_hook_and_no_table() -> None:
    """The hooks are on the modules for a sampled step only."""
    model = Twice()
    optimizer = SGD(model.parameters(), 0.1)
    with watch(model, optimizer, activations=True) as watched:
        counts = []
        for _ in range(5):
            counts.append(len(model.relu._forward_hooks))
            model(_inputs()).mean().backward()
            optimizer.step()
        tables = [report.activations is not None for report in watched.reports]

    assert counts == [0, 1, 0, 0, 0]
    assert tables == [False, True, False, False, False]


def test_function_calls_are_counted_as_not_seen(caplog: pytest.LogCaptureFixture) -> None:
    """And told of once, with the remedy."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.relu = nn.Linear(4, 4), nn.ReLU()

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.tanh(self.relu(self.linear(inputs)))

    with caplog.at_level(logging.INFO, "loopscope"):
        table = _sampled(Functional(), _inputs())

    assert (table.names, table.num_functional, table.num_unseen) == (("relu",), 1, 0)
    assert sum("use modules (nn.ReLU" in record.getMessage() for record in caplog.records) == 1


def test_model_without_activation_modules_is_told_at_attach(caplog: pytest.LogCaptureFixture) -> None:
    """With what to do about it."""
    model = nn.Linear(4, 1)
    with caplog.at_level(logging.WARNING, "loopscope"), watch(model, SGD(model.parameters(), 0.1), activations=True):
        pass

    assert "use modules (nn.ReLU" in caplog.text
