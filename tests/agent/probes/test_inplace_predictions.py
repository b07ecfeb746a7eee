"""Laws of predictions: the first forward tells what backward will raise, before it is run, and nothing else."""

from __future__ import annotations

import pytest
import torch
from tests.inplacing import failure, inplace_events, model_and_optimizer
from tests.loops import NUM_IN, batch, watch
from torch import Tensor, nn


class _Shared(nn.Module):
    """One activation in place, called behind a linear layer and behind what saves its own result."""

    def __init__(self, second: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.second = nn.Linear(NUM_IN, 8), nn.Linear(8, 8), second
        self.act = nn.ReLU(inplace=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what the activation was called for twice."""
        hidden = self.act(self.first(inputs))
        return self.act(self.second(self.middle(hidden)))


def test_a_conflict_is_told_before_backward_runs() -> None:
    """At severity warning, with both operators and the remedy; the exception then has the note of its own."""
    model, optimizer = model_and_optimizer(_Shared(nn.Sigmoid()))
    with watch(model, optimizer) as watched:
        model(batch())
        (told,) = inplace_events(watched)
        error = failure(model)

    assert (told.kind, told.severity, told.attributes["evidence"]) == ("inplace_conflict", "warning", "predicted")
    assert told.attributes["saved_operator"] == "aten::sigmoid"
    assert told.remedy == "Build the module with inplace=False."
    assert "aten::relu_" in error.__notes__[0]


@pytest.mark.parametrize("second", [nn.BatchNorm1d(8), nn.LayerNorm(8), nn.GELU(), nn.Identity()], ids=str)
def test_a_module_that_is_called_twice_is_judged_by_the_call(second: nn.Module) -> None:
    """Behind layers that do not need their result it is left alone."""
    model, optimizer = model_and_optimizer(_Shared(second))
    with watch(model, optimizer) as watched:
        model(batch())

        assert inplace_events(watched) == []


def test_convolution_batchnorm_and_activation_in_place_are_silent() -> None:
    """The usual block, before and after its backward."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 3))
    with watch(*model_and_optimizer(model)) as watched:
        loss = model(torch.randn(2, 1, 8, 8)).square().mean()
        before = inplace_events(watched)
        loss.backward()

        assert before == inplace_events(watched) == []


def test_what_is_computed_without_gradients_is_no_conflict() -> None:
    """Nothing is saved there."""
    model, optimizer = model_and_optimizer(_Shared(nn.Sigmoid()))
    with watch(model, optimizer) as watched:
        with torch.no_grad():
            model(batch())

        assert inplace_events(watched) == []


def test_a_write_to_what_two_have_saved_is_told_once() -> None:
    """With both lines that had saved it."""
    model, optimizer = model_and_optimizer()
    with watch(model, optimizer) as watched:
        hidden = model[0](batch())
        squares = hidden.square()
        sines = hidden.sin()
        hidden.data.add_(1)
        (squares.sum() + sines.sum()).backward()
        (event,) = inplace_events(watched)

    assert "`squares = hidden.square()` (aten::pow)" in event.message
    assert "`sines = hidden.sin()` (aten::sin)" in event.message
