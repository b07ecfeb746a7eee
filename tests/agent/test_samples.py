"""Laws of what is beside the norms: clipping, and the statistics of sampled steps, against numpy in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

import loopscope
from loopscope import GradientSample, GradientTable
from loopscope.records import EXPONENT_HIGH, EXPONENT_LOW, NUM_EXPONENT_BINS
from loopscope_exporters.memory import MemoryExporter

_TOLERANCE = 1e-5


def _model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(4)]).to(dtype)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def _backward(model: nn.Module) -> None:
    """Have a backward leave the very gradients that are there: d(w g)/dw = g."""
    losses = []
    for parameter in model.parameters():
        gradient, parameter.grad = parameter.grad, None
        losses.append((parameter * gradient).sum())
    torch.stack(losses).sum().backward()


def _table(model: nn.Module, clip: Callable[[], object] | None = None, lr: float = 0.1) -> GradientTable:
    """What is reported of one step with the gradients that are there, which is a sampled one."""
    memory = MemoryExporter()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with loopscope.attach(model, optimizer, port=None, exporters=(memory,), log_events=False):
        if clip is not None:
            _backward(model)
            clip()
        optimizer.step()
    assert memory.latest is not None
    assert memory.latest.gradients is not None
    return memory.latest.gradients


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _total(parameters: Iterable[Tensor]) -> float:
    return math.sqrt(math.fsum(float(gradient.double().square().sum()) for gradient in _gradients(parameters)))


# clipping


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e6, math.inf])
@pytest.mark.parametrize("foreach", [True, False])
def test_norm_before_clipping_is_torchs(max_norm: float, foreach: bool) -> None:
    """The global norm before clipping is `get_total_norm`; the one after it is what the optimizer applies."""
    model = _model()
    before = float(get_total_norm(_gradients(model.parameters())))

    table = _table(model, lambda: clip_grad_norm_(model.parameters(), max_norm, foreach=foreach))

    assert table.global_norm_pre_clip == pytest.approx(before, rel=_TOLERANCE)
    assert table.global_norm == pytest.approx(_total(model.parameters()), rel=_TOLERANCE)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_norm_before_clipping_is_l2_whatever_is_clipped_by(norm_type: float) -> None:
    """Clipping by another norm multiplies by another factor; the L2 norm before it is found all the same."""
    model = _model()
    before = _total(model.parameters())

    table = _table(model, lambda: clip_grad_norm_(model.parameters(), 0.5, norm_type=norm_type))

    assert table.global_norm_pre_clip == pytest.approx(before, rel=_TOLERANCE)


@pytest.mark.parametrize("bounds", [(0.1, 0.2), (0.1, 1e6), (1e6, 1e6), (0.1, None)])
def test_norm_before_clipping_by_groups_joins_them(bounds: tuple[float, float | None]) -> None:
    """Groups clipped on their own, or left alone, together have the norm that they had before."""
    model = _model()
    before = _total(model.parameters())

    def clip() -> None:
        for part, bound in zip((model[:2], model[2:]), bounds, strict=True):
            if bound is not None:
                clip_grad_norm_(part.parameters(), bound)

    assert _table(model, clip).global_norm_pre_clip == pytest.approx(before, rel=_TOLERANCE)


def test_clipping_twice_goes_back_to_the_first() -> None:
    """The norm before clipping is the one before the first call."""
    model = _model()
    before = _total(model.parameters())

    def clip() -> None:
        clip_grad_norm_(model.parameters(), 3.0)
        clip_grad_norm_(model.parameters(), 0.5)

    assert _table(model, clip).global_norm_pre_clip == pytest.approx(before, rel=_TOLERANCE)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("num_layers", [2, 4])
def test_norm_before_clipping_to_zero_is_unknown(num_layers: int, norm_type: float) -> None:
    """max_norm=0 makes gradients 0, and torch does not say by which norm: the L2 norm before is absent."""
    model = _model()

    table = _table(model, lambda: clip_grad_norm_(model[:num_layers].parameters(), 0.0, norm_type=norm_type))

    assert table.global_norm == pytest.approx(_total(model.parameters()))
    assert table.global_norm_pre_clip is None


def test_without_clipping_there_is_no_norm_before_it() -> None:
    """Nothing clipped, nothing said."""
    assert _table(_model()).global_norm_pre_clip is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_norm_before_clipping_of_nonfinite_gradients_is_nonfinite(value: float) -> None:
    """One NaN or infinity makes the norm before clipping what torch says it is."""
    model = _model()
    model[0].weight.grad[0, 0] = value

    table = _table(model, lambda: clip_grad_norm_(model.parameters(), 1.0))

    assert table.global_norm_pre_clip == pytest.approx(value, nan_ok=True)


# samples


def _sample(model: nn.Module, lr: float = 0.1) -> tuple[GradientTable, GradientSample]:
    table = _table(model, lr=lr)
    assert table.sample is not None
    return table, table.sample


def _numpy(tensor: Tensor) -> npt.NDArray[np.float64]:
    values = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    return values.double().numpy().reshape(-1)


def _histogram(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Count by the exponent field of IEEE 754, the bins below and above sharing the ends."""
    values = values[np.isfinite(values) & (values != 0)]
    exponents = ((values.view(np.uint64) >> np.uint64(52)) & np.uint64(0x7FF)).astype(np.int64) - 1_023
    return np.bincount(np.clip(exponents - EXPONENT_LOW + 1, 0, NUM_EXPONENT_BINS - 1), minlength=NUM_EXPONENT_BINS)


def _spread(*shape: int) -> Tensor:
    """Magnitudes from below the first bin to above the last, with zeros and exact powers of two among them."""
    values = torch.randn(shape) * torch.exp2(torch.randint(EXPONENT_LOW - 5, EXPONENT_HIGH + 5, shape).float())
    values.view(-1)[::7] = 0.0
    values.view(-1)[1::11] = 2.0**-20
    return values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float16])
def test_small_parameters_are_read_exactly(dtype: torch.dtype) -> None:
    """Where every element is read, all statistics are those of numpy on the whole tensor."""
    model, limit = _model(), min(torch.finfo(dtype).max, 1e38)
    for parameter in model.parameters():
        parameter.grad = _spread(*parameter.shape).clamp(-limit, limit)
    model = model.to(dtype)

    table, sample = _sample(model, lr=0.0)

    assert sample.is_exact_P.all()
    tiny = torch.finfo(dtype).smallest_normal
    expected_GB = np.zeros((len(table.layers), NUM_EXPONENT_BINS), dtype=np.int64)
    for row, (name, parameter) in enumerate(model.named_parameters()):
        values, weights = _numpy(parameter.grad), _numpy(parameter)
        assert table.names[row] == name
        assert sample.num_sampled_P[row] == values.size
        assert sample.max_abs_P[row] == np.abs(values).max()
        assert sample.mean_P[row] == pytest.approx(values.mean(), rel=_TOLERANCE)
        assert sample.zero_ratio_P[row] == np.mean(values == 0)
        assert sample.subnormal_ratio_P[row] == np.mean((values != 0) & (np.abs(values) < tiny))
        assert sample.weight_norms_P[row] == pytest.approx(np.linalg.norm(weights), rel=_TOLERANCE)
        expected_GB[table.layer_index_P[row]] += _histogram(values)
    assert (sample.histogram_GB == expected_GB).all()


@pytest.mark.parametrize("shape", [(700, 900), (1_024, 512), (30, 20, 5, 5), (300_001,)])
@pytest.mark.parametrize("memory_format", ["contiguous", "transposed"])
def test_large_parameters_have_exact_extremes_and_estimates(shape: tuple[int, ...], memory_format: str) -> None:
    """Largest magnitude and weight norm are exact; what a sample estimates says so and lies near the truth."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape))
    gradient = torch.randn(shape) * torch.rand(shape[-1])  # scaled by columns, where a bad stride would see few
    gradient[torch.rand(shape) < 0.25] = 0.0
    is_transposed = memory_format == "transposed" and len(shape) > 1
    weight.grad = gradient.mT.contiguous().mT if is_transposed else gradient
    before = weight.detach().clone()

    _, sample = _sample(nn.ParameterList([weight]), lr=0.1)

    update = float((weight.detach() - before).double().norm() / before.double().norm())
    assert sample.is_exact_P.tolist() == [False]
    assert sample.max_abs_P[0] == float(gradient.abs().max())
    assert sample.weight_norms_P[0] == pytest.approx(float(before.double().norm()), rel=_TOLERANCE)
    assert sample.zero_ratio_P[0] == pytest.approx(float((gradient == 0).double().mean()), abs=0.06)
    assert sample.update_ratios_P[0] == pytest.approx(update, rel=0.15)
    assert sample.histogram_GB.sum() == pytest.approx((1 - sample.zero_ratio_P[0]) * sample.num_sampled_P[0])


def test_update_ratio_of_small_parameters_is_exact() -> None:
    """Where all elements are read the ratio is the norm of the change over the norm of the weights before it."""
    model = _model()
    before = [_numpy(parameter).copy() for parameter in model.parameters()]

    table, sample = _sample(model)

    changes = [_numpy(parameter) - old for parameter, old in zip(model.parameters(), before, strict=True)]
    expected = [np.linalg.norm(change) / np.linalg.norm(old) for change, old in zip(changes, before, strict=True)]
    assert sample.update_ratios_P.tolist() == pytest.approx(expected, rel=1e-4)
    for layer in range(len(table.layers)):
        rows = np.flatnonzero(table.layer_index_P == layer)
        expected_G = np.linalg.norm(np.concatenate([changes[row] for row in rows]))
        expected_G /= np.linalg.norm(np.concatenate([before[row] for row in rows]))
        assert sample.update_ratios_G[layer] == pytest.approx(expected_G, rel=1e-4)


def test_layers_join_their_parameters() -> None:
    """A layer's largest magnitude, zero ratio and weight norm are those of its parameters taken together."""
    model = _model()
    model[1].weight.grad[:4] = 0.0

    table, sample = _sample(model)

    for layer in range(len(table.layers)):
        parameters = [p for p, index in zip(model.parameters(), table.layer_index_P, strict=True) if index == layer]
        gradients = np.concatenate([_numpy(parameter.grad) for parameter in parameters])
        assert sample.max_abs_G[layer] == np.abs(gradients).max()
        assert sample.zero_ratio_G[layer] == pytest.approx(np.mean(gradients == 0))


def test_missing_and_sparse_gradients_have_no_sample() -> None:
    """What is not known is NaN: a gradient that is None or sparse has no sampled statistics, its weight has."""
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 4))
    model(torch.tensor([1, 1, 3])).sum().backward()
    model[1].bias.grad = None

    table, sample = _sample(model)

    unknown = [name in ("0.weight", "1.bias") for name in table.names]
    for values in (sample.max_abs_P, sample.mean_P, sample.zero_ratio_P):
        assert np.isnan(values).tolist() == unknown
    assert (sample.weight_norms_P > 0).all()


def test_complex_sample_is_exact_only_where_all_parts_are_read() -> None:
    """A complex element has two parts; a sample that read half of them is none of all elements."""
    weight = nn.Parameter(torch.randn(1_200, dtype=torch.complex64))
    weight.grad = torch.randn(1_200, dtype=torch.complex64)

    _, sample = _sample(nn.ParameterList([weight]))

    assert sample.is_exact_P.tolist() == [False]


def test_fused_optimizer_under_a_scaler_is_unscaled() -> None:
    """A fused optimizer gets scaled gradients and divides inside its kernel; the norms reported are the true ones."""
    torch.manual_seed(0)
    model, memory = nn.Linear(8, 8), MemoryExporter()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1_024.0)
    with loopscope.attach(model, optimizer, port=None, exporters=(memory,)):
        scaler.scale(model(torch.randn(4, 8)).square().sum()).backward()
        expected, largest = _total(model.parameters()) / 1_024, float(model.weight.grad.abs().max()) / 1_024
        scaler.step(optimizer)
        scaler.update()

    assert memory.latest is not None
    table = memory.latest.gradients
    assert table is not None
    assert table.sample is not None
    assert table.global_norm == pytest.approx(expected, rel=_TOLERANCE)
    assert table.sample.max_abs_P[table.names.index("weight")] == pytest.approx(largest, rel=_TOLERANCE)
