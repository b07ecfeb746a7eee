"""What only a GPU can show: no sync in steady state, exact norms, mixed precision, graph capture. `make gpu-check`."""

from __future__ import annotations

import contextlib
import time
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

import loopscope
from loopscope_exporters.memory import MemoryExporter

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def _model(width: int = 64) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)] * 4
    return nn.Sequential(*layers, nn.Linear(width, 10)).cuda()


def _batch(width: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(32, width, device="cuda"), torch.randint(0, 10, (32,), device="cuda")


def _attach(model, optimizer, memory, **settings):
    return loopscope.attach(model, optimizer, port=None, exporters=(memory,), strict=True, **settings)


@contextlib.contextmanager
def _no_sync_allowed():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _wait_for_kernels(step, agent) -> None:
    """Step until the kernels are compiled, so that what follows is the steady state."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        step()
        plans = [
            plan
            for source in agent._loop._sources.all()
            for by in source.reader._plans.values()
            for plan in by.values()
        ]
        if all(plan.one_pass is None or plan.one_pass.is_ready for plan in plans):
            return
    pytest.fail("the kernels were not compiled within 60 s")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_norms_agree_with_float64(dtype):
    """Norms of the one-pass kernel and of the foreach fallback agree with float64 to 1e-5, for each dtype."""
    model, memory = _model().to(dtype), MemoryExporter(10_000)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, targets = _batch()
    references = []

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(inputs.to(dtype)).float(), targets).backward()
        references.append([p.grad.double().norm() for p in model.parameters()])
        optimizer.step()

    with _attach(model, optimizer, memory) as agent:
        step()
        _wait_for_kernels(step, agent)
        step()
        assert agent.flush(10)
    reports = {report.step: report for report in memory.steps}
    assert len(references) - 1 in reports
    for index, report in reports.items():
        expected = torch.stack(references[index]).cpu().numpy()
        assert report.gradients.norms == pytest.approx(expected, rel=1e-5)


def test_one_pass_counts_what_a_reference_counts():
    """Largest magnitude, zeros, non-finite elements and sum of every tensor equal a float64 reference."""
    from loopscope.triton_stats import TritonPlan, is_supported

    torch.manual_seed(0)
    shapes = [(7,), (1,), (64, 3, 3, 3), (16_384,), (16_385,), (40_000,), (513, 33), (3_000_001,)]
    tensors = [torch.randn(shape, device="cuda") for shape in shapes]
    tensors[2].view(-1)[:5] = 0
    tensors[3][3], tensors[3][9], tensors[5][-1] = float("nan"), float("inf"), -float("inf")
    tensors[6] *= 1e30
    tensors[7] *= 1e-30
    tensors[2] = tensors[2].to(torch.bfloat16)
    tensors[6] = tensors[6].t()
    assert is_supported(tensors)
    plan = TritonPlan(tensors)
    deadline = time.monotonic() + 60
    while not plan.is_ready and time.monotonic() < deadline:
        time.sleep(0.01)
    assert plan.is_ready, [c.error for c in plan._compilations]
    out = torch.zeros(plan.width, dtype=torch.float64, device="cuda")
    plan.write(tensors, out, 0)
    norm, largest, zeros, nonfinite, total = out.view(5, -1).cpu()
    for i, tensor in enumerate(tensors):
        values = tensor.double()
        bad = int((~torch.isfinite(values)).sum())
        assert int(nonfinite[i]) == bad
        assert int(zeros[i]) == int((values == 0).sum())
        if not bad:
            assert norm[i].item() == pytest.approx(values.norm().item(), rel=1e-9)
            assert largest[i].item() == values.abs().max().item()
            assert total[i].item() == pytest.approx(values.sum().item(), rel=1e-6, abs=1e-9 * values.abs().sum().item())


def test_a_changed_layout_is_refused_before_it_is_read():
    """A plan refuses tensors of other sizes: a stale table would read beyond their memory."""
    from loopscope.triton_stats import TritonPlan

    plan = TritonPlan([torch.zeros(100, device="cuda")])
    with pytest.raises(RuntimeError, match="layout"):
        plan.write([torch.zeros(50, device="cuda")], torch.zeros(5, dtype=torch.float64, device="cuda"), 0)


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")
@pytest.mark.parametrize("is_compiled", [False, True])
def test_no_sync_in_steady_state(is_compiled):
    """With sync debug mode `error`, 300 steps (sampled ones among them) with clipping raise nothing."""
    model, memory = _model(), MemoryExporter(10_000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    forward = torch.compile(model) if is_compiled else model
    inputs, targets = _batch()

    def step():
        optimizer.zero_grad()
        F.cross_entropy(forward(inputs), targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        agent.log(scale=inputs[0, 0] * 0 + 3.0)

    with _attach(model, optimizer, memory) as agent:
        step()
        _wait_for_kernels(step, agent)
        with _no_sync_allowed():
            for _ in range(300):
                step()
        assert agent.flush(20)
        assert agent.internal_errors == {}
        assert agent._loop.num_dropped + len(memory.steps) >= 300
    sampled = [report for report in memory.steps if report.gradients.sample is not None]
    assert sampled
    assert memory.latest.gradients.global_norm_pre_clip is not None
    assert memory.latest.loss > 0
    assert memory.steps[-2].logged == {"scale": 3.0}


def test_phases_are_those_of_the_device():
    """Where the host runs ahead, forward, backward and optimizer are the device's times, and add up to the step."""
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(4096, 4096, bias=False) for _ in range(8)]).cuda()
    memory = MemoryExporter(10_000)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    inputs = torch.randn(8192, 4096, device="cuda")
    with _attach(model, optimizer, memory) as agent:
        for _ in range(30):
            optimizer.zero_grad()
            model(inputs).pow(2).mean().backward()
            optimizer.step()
        torch.cuda.synchronize()
        assert agent.flush(10)
        assert agent.internal_errors == {}
    reports = [report for report in memory.steps[10:] if report.phases_clock == "device"]
    assert len(reports) >= 15
    forward = sorted(report.phases["forward"] for report in reports)[len(reports) // 2]
    backward = sorted(report.phases["backward"] for report in reports)[len(reports) // 2]
    flops = 2 * 8192 * 4096 * 4096 * 8
    assert flops / 1e15 < forward < flops / 1e12  # between a petaflop and a teraflop a second: the work itself
    assert 1.2 < backward / forward < 4  # two products a layer, where the forward has one


def test_training_is_bit_identical_on_cuda():
    """Losses and weights with and without the agent are equal, bit for bit, under deterministic algorithms."""

    def train(is_attached):
        model = _model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        inputs, targets = _batch()
        agent = _attach(model, optimizer, MemoryExporter()) if is_attached else None
        losses = []
        for _ in range(50):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        if agent is not None:
            agent.detach()
        return torch.stack(losses), torch.cat([p.detach().flatten() for p in model.parameters()])

    bare, watched = train(False), train(True)
    assert torch.equal(bare[0], watched[0])
    assert torch.equal(bare[1], watched[1])


def test_fused_optimizer_under_grad_scaler():
    """A fused optimizer's norms are unscaled, and the step that its kernel skipped names the non-finite layers."""
    model, memory = _model(), MemoryExporter(10_000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    inputs, targets = _batch()
    references = []
    with _attach(model, optimizer, memory) as agent:
        for index in range(6):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = F.cross_entropy(model(inputs), targets)
            scaler.scale(loss * float("inf") if index == 3 else loss).backward()
            norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
            references.append((norm / scaler.get_scale()).item())
            scaler.step(optimizer)
            scaler.update()
        assert agent.flush(10)
    assert [report.skipped for report in memory.steps] == [None, None, None, "grad_scaler", None, None]
    assert [report.step for report in memory.steps] == [0, 1, 2, 3, 3, 4]
    assert memory.steps[3].gradients.nonfinite_layers
    for index in (0, 1, 2, 4, 5):
        assert memory.steps[index].gradients.global_norm == pytest.approx(references[index], rel=1e-4)


def test_capture_of_a_whole_step_is_left_alone():
    """A CUDA graph of forward, backward and step can be captured and replayed with the agent attached."""
    model, memory = _model(), MemoryExporter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, capturable=True)
    inputs, targets = _batch()
    with _attach(model, optimizer, memory) as agent:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(model(inputs), targets).backward()
                optimizer.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
        graph.replay()
        before = loss.item()
        for _ in range(20):
            graph.replay()
        assert 0 < loss.item() < before
        assert agent.flush(10)
        assert agent.internal_errors == {}


def test_default_device_may_be_cuda():
    """Pinned tables are made on the host whatever the default device is."""
    memory, model, (x, y) = MemoryExporter(), _model(), _batch()
    with torch.device("cuda"), _attach(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.1), memory):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert memory.latest.gradients is not None


@pytest.mark.parametrize("change", ["absent", "moved"])
def test_kernels_read_only_what_their_plan_was_made_for(change):
    """A gradient that is None, or on the host by now, is never read by the address of old."""
    memory = MemoryExporter()
    model, (x, _) = _model(), _batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        out = model(x)
        out.backward(torch.ones_like(out))  # without a loss, which would tell the device
        optimizer.step()
        optimizer.zero_grad()

    with _attach(model, optimizer, memory) as agent:
        _wait_for_kernels(step, agent)
        if change == "absent":
            model[0].requires_grad_(False)
        else:
            model.cpu()
            x = x.cpu()
        step()
    torch.cuda.synchronize()
    assert bool(memory.latest.gradients.norms[0] > 0) is (change == "moved")
