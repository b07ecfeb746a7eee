"""Laws of the search for a NaN: where it began is found in the graph of the loss, and nothing is computed for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from loopscope.probes.origins import find_origin
from loopscope.records import NonfiniteOrigin

NAN, INF = math.nan, math.inf
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
TOKENS = torch.arange(24).reshape(8, 3) % 10


def inputs(row: int | None = None, value: float = NAN) -> Tensor:
    """Return a batch [8, 4], with a value that is not finite in one row."""
    batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    if row is not None:
        batch[row, 0] = value
    return batch


def targets(row: int) -> Tensor:
    """Return targets [8, 3] with a NaN in one row."""
    values = torch.full((8, 3), 0.5)
    values[row, 1] = NAN
    return values


def mlp(parameter: str | None = None, value: float = NAN, *, frozen: str | None = None) -> nn.Sequential:
    """Return layers 0, 2 and 4, with one element of a parameter at `value`, one layer frozen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    if frozen is not None:
        model.get_submodule(frozen).requires_grad_(False)
    return _planted(model, parameter, value)


class Between(nn.Module):
    """Layers a and b with a function between them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.function = nn.Linear(4, 8), nn.Linear(8, 3), function

    def forward(self, batch):
        """Return logits."""
        return self.b(self.function(self.a(batch)))


class Recurrent(nn.Module):
    """An embedding, an LSTM and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.lstm = nn.Embedding(10, 6), nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        """Return logits."""
        return self.head(self.lstm(self.embedding(tokens))[0][:, -1])


class Causal(nn.Module):
    """A transformer of two layers under a mask of minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.embedding, self.encoder = nn.Embedding(10, 8), nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        """Return logits."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.encoder(self.embedding(tokens), mask=mask).mean(1))


class Scaled(torch.autograd.Function):
    """A function of the user's that overflows, and has attributes of its own."""

    @staticmethod
    def forward(ctx, batch):
        """Overflow."""
        result = torch.exp(batch * 1e5)
        ctx.save_for_backward(result)
        ctx.variable = 3
        return result

    @staticmethod
    def backward(ctx, gradient):
        """Return the gradient."""
        return gradient * ctx.saved_tensors[0]


def convolutional(parameter: str | None = None) -> nn.Sequential:
    """Return a convolution, a batch norm and a head."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    return _planted(model, parameter, NAN)


def shared(value: float = NAN) -> nn.Sequential:
    """Return a module that is called twice."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    return _planted(nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(4, 3)), "0.weight", value)


def _planted(model: Any, parameter: str | None, value: float) -> Any:
    if parameter is not None:
        with torch.no_grad():
            model.get_parameter(parameter).view(-1)[0] = value
    return model


def classify(outputs: Tensor) -> Tensor:
    """Return the usual loss."""
    return functional.cross_entropy(outputs, LABELS)


def origin_of(model: nn.Module, batch: Tensor, loss_of: Callable[[Tensor], Tensor] = classify) -> Any:
    """Return what is found in the graph of a loss that is not finite."""
    loss = loss_of(model(batch))
    assert not math.isfinite(loss.item())
    return find_origin(loss, {id(parameter): name for name, parameter in model.named_parameters()})


def place(origin: NonfiniteOrigin | None) -> tuple[Any, ...]:
    """Return what, which layer, and which rows."""
    assert origin is not None
    layer = None if origin.parameter is None else origin.parameter.rpartition(".")[0]
    return origin.what, layer, origin.rows


@pytest.mark.parametrize(
    ("model", "parameter"),
    [
        *((mlp(name), name) for name in ("0.weight", "0.bias", "2.bias", "4.weight")),
        (mlp("2.weight", INF), "2.weight"),
        (mlp("2.weight").bfloat16(), "2.weight"),
        (convolutional("0.weight"), "0.weight"),
        (convolutional("1.bias"), "1.bias"),
        (shared(), "0.weight"),
    ],
)
def test_a_weight_is_named(model, parameter):
    """The first parameter in the order of the forward that is not finite is named, also where a module is shared."""
    batch = torch.ones(8, 1, 4, 4) if isinstance(model[0], nn.Conv2d) else inputs()

    origin = origin_of(model, batch.to(next(model.parameters()).dtype))

    assert (origin.what, origin.parameter) == ("weight", parameter)


@pytest.mark.parametrize(
    ("model", "parameter"),
    [
        (Recurrent(), "lstm.weight_hh_l0"),
        (Recurrent(), "embedding.weight"),
        (Causal(), "encoder.layers.1.linear1.weight"),
        (Causal(), "encoder.layers.0.norm1.bias"),
        (Causal(), "head.weight"),
    ],
    ids=str,
)
def test_a_weight_is_named_in_sequences(model, parameter):
    """Infinities of a mask are none: in recurrent nets and under causal masks it is the weight that is found."""
    origin = origin_of(_planted(model, parameter, NAN), TOKENS)

    assert (origin.what, origin.parameter) == ("weight", parameter)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("row", [0, 3, 7])
def test_a_row_of_the_batch_is_named(row, value):
    """A sample that is not finite is the input of the first layer, by its place in the batch."""
    assert place(origin_of(mlp(), inputs(row, value))) == ("input", "0", (row,))


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda outputs: functional.mse_loss(outputs, targets(2)),
        lambda outputs: functional.smooth_l1_loss(outputs, targets(2)),
        lambda outputs: functional.binary_cross_entropy_with_logits(outputs, targets(2)),
    ],
    ids=["mse", "smooth_l1", "bce"],
)
def test_a_target_is_named(loss_of):
    """Labels that are not finite are the target, by their places."""
    assert place(origin_of(mlp(), inputs(), loss_of)) == ("target", "4", (2,))


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (torch.log, "log"),
        (lambda hidden: torch.log(hidden) + 1, "log"),
        (lambda hidden: torch.cat([hidden[:, :4], torch.log(hidden[:, 4:])], 1), "log"),
        (torch.sqrt, "sqrt"),
        (lambda hidden: hidden**0.3, "pow"),
        (lambda hidden: hidden / (hidden - hidden), "div"),
        (lambda hidden: 1 + hidden / torch.zeros(8), "div"),
        (lambda hidden: torch.exp(hidden * 1e4), "exp"),
        (lambda hidden: hidden * 1e30 * 1e30, "mul"),
        (Scaled.apply, "scaled"),
        (lambda hidden: torch.log(torch.sparse.mm(torch.eye(8).to_sparse(), hidden)), "log"),
    ],
)
def test_an_operator_is_named(function, operator):
    """What made it of finite values is named, by the layer that it follows; sums and views are looked through."""
    origin = origin_of(Between(function), inputs())

    assert (origin.what, origin.operator, place(origin)[1]) == ("operator", operator, "a")


@pytest.mark.parametrize(
    ("loss_of", "operator"),
    [
        (lambda outputs: -outputs.mul(1e5).softmax(1).log()[range(8), LABELS].mean(), "log"),
        (lambda outputs: functional.cross_entropy(outputs, torch.full((8,), -100)), "nllloss"),
        (lambda outputs: (outputs * torch.zeros(8, 1)).sum() / torch.zeros(()), "div"),
        (lambda outputs: classify(outputs) + torch.log(outputs.sum() * 0 - 1), "log"),
    ],
    ids=["log of 0", "mean of no targets", "mean of none", "penalty"],
)
def test_an_operator_of_the_loss_is_named(loss_of, operator):
    """What goes wrong behind the last layer is told by its operator."""
    origin = origin_of(mlp(), inputs(), loss_of)

    assert (origin.what, origin.operator) == ("operator", operator)


def test_an_overflow_is_found_at_the_layer_where_it_is():
    """Activations that grow until they overflow: the layer is the first whose output is not finite."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(30)), nn.Linear(4, 3))
    hidden, first = inputs(), None
    with torch.no_grad():
        for index, layer in enumerate(model):
            layer.weight.mul_(100)
            hidden = layer(hidden)
            first = index if first is None and not hidden.isfinite().all() else first

    assert place(origin_of(model, inputs()))[:2] == ("operator", str(first))


@pytest.mark.parametrize(("frozen", "layer"), [("2", "2"), ("4", "4")])
def test_a_frozen_layer_is_named_by_what_it_saved(frozen, layer):
    """Parameters that ask for no gradient are at no end of the graph: the layer is known all the same."""
    assert place(origin_of(mlp(f"{frozen}.bias", frozen=frozen), inputs()))[1] == layer


@pytest.mark.parametrize("is_training", [True, False])
def test_statistics_of_batch_norm_count_where_they_are_used(is_training):
    """Running statistics that are not finite are the cause in evaluation mode; in training they are not used."""
    model = convolutional("4.weight")
    model[1].running_var[0] = NAN
    model[1].train(is_training)

    assert place(origin_of(model, torch.randn(8, 1, 4, 4)))[:2] == (("weight", "4") if is_training else ("input", "1"))


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_behind_a_checkpoint_no_layer_is_named(use_reentrant):
    """What a checkpoint hides may be where it began: the rows are told, and no layer."""
    model = mlp()
    loss = classify(checkpoint(model, inputs(3).requires_grad_(), use_reentrant=use_reentrant))

    origin = find_origin(loss, {id(parameter): name for name, parameter in model.named_parameters()})

    assert place(origin) == ("operator", None, (3,))


def test_compiled_code_is_looked_into_as_far_as_it_goes():
    """Its weights are named; of what it computes it is said that it was in there."""
    with_weight, with_log = mlp("2.weight"), Between(torch.log)

    assert place(origin_of(torch.compile(with_weight, backend="aot_eager"), inputs()))[0] == "weight"
    assert place(origin_of(torch.compile(with_log, backend="aot_eager"), inputs())) == ("operator", None, ())


def test_an_older_torch_knows_of_weights_only(monkeypatch):
    """Without `SavedTensor.data`, which came with torch 2.8, nothing is known of what the graph has saved."""
    monkeypatch.setattr(torch._C._autograd, "SavedTensor", object)

    assert origin_of(mlp(), inputs(3)) is None
    assert place(origin_of(mlp("2.weight"), inputs()))[0] == "weight"
