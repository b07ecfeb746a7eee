"""Laws of the search for a NaN in a live loop: told once, on its step, and training does not notice it."""

from __future__ import annotations

import math

import pytest
import torch
from tests.loops import batch, network, samples, watch, weights
from torch import nn
from torch.optim import SGD
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from loopscope.records import HealthReport

NAN = math.nan


class Loop:
    """A loop that can be given any batch; what is lost by a NaN is put back."""

    def __init__(self) -> None:
        self.model = network()
        self.optimizer = SGD(self.model.parameters(), 0.01)

    def step(self, inputs=None, factor=1.0, *, is_taken=True):
        """Train on a batch."""
        loss = self.model(batch() if inputs is None else inputs).square().mean() * factor
        loss.backward()
        if is_taken:
            self.optimizer.step()
        self.optimizer.zero_grad()


def bad(row: int):
    """Return a batch with a NaN in one row."""
    inputs = batch().clone()
    inputs[row, 1] = NAN
    return inputs


def test_the_event_names_layer_rows_and_batch():
    """A NaN loss says in which layer, which samples of which batch it began; the gradient's event refers to it."""
    loop, data = Loop(), samples(12)
    data[7][2] = NAN
    with watch(loop.model, loop.optimizer) as watched:
        for inputs in DataLoader(data, batch_size=3):
            loop.step(inputs)
        _, _, report, _ = watched.reports
        loss, gradient = report.events

    assert (loss.kind, loss.step, loss.layer, loss.first_cause) == ("nonfinite_loss", 2, "0", True)
    assert (loss.attributes["origin"], loss.attributes["rows"]) == ("input", [1])
    assert loss.attributes["happened"]["batch"] == report.batch == 2
    assert (gradient.kind, gradient.layer, gradient.first_cause) == ("nonfinite_gradient", "0", False)
    assert (gradient.attributes["cause"], gradient.attributes["cause_layer"]) == ("nonfinite_loss", "0")


def test_a_weight_that_went_bad_is_named():
    """Where a weight was overwritten between two steps, the event of the next one says so."""
    loop = Loop()
    with watch(loop.model, loop.optimizer) as watched:
        loop.step()
        with torch.no_grad():
            loop.model[2].bias[0] = NAN
        loop.step()
        loss = watched.reports[-1].events[0]

    assert (loss.layer, loss.attributes["origin"], loss.attributes["parameter"]) == ("2", "weight", "2.bias")


def test_a_search_follows_a_finite_loss_only():
    """A NaN that stays is searched for once; after a finite loss the next one is searched for anew."""
    loop = Loop()
    with watch(loop.model, loop.optimizer) as watched:
        for row in (0, 1, None, 2, None):
            loop.step(None if row is None else bad(row), is_taken=False)
        found = [None if report.origin is None else report.origin.rows for report in watched.reports]

    assert found == [(0,), None, None, (2,), None]


def test_origin_reaches_its_step_though_notes_are_fetched_in_between():
    """Between backward and step the worker may fetch the notes, as it does in steps longer than a second."""
    loop = Loop()
    with watch(loop.model, loop.optimizer) as watched:
        loop.step()
        loop.model(bad(4)).square().mean().backward()
        assert watched.agent.flush()
        loop.optimizer.step()
        report = watched.reports[-1]

    assert report.origin is not None
    assert report.origin.rows == (4,)


def test_the_loss_of_another_model_is_not_this_loops():
    """A NaN in the backward of a model that is not watched gives no step of this loop an origin."""
    loop, other = Loop(), Loop()
    with watch(loop.model, loop.optimizer) as watched:
        other.step(bad(1))
        loop.step()

        assert math.isfinite(watched.only.loss)
        assert watched.only.origin is None


def test_a_scaled_loss_is_searched_as_well():
    """Under a GradScaler on the CPU the root is the scaled loss."""
    loop, scaler = Loop(), torch.amp.GradScaler("cpu")
    with watch(loop.model, loop.optimizer) as watched:
        scaler.scale(loop.model(bad(5)).square().mean()).backward()
        scaler.step(loop.optimizer)
        scaler.update()
        (report,) = watched.reports

    assert report.skipped == "grad_scaler"
    assert (report.origin.what, report.origin.rows) == ("input", (5,))


def test_nothing_is_computed_again():
    """A checkpointed region runs its forward twice, once for each pass, and not a third time for the search."""
    model, calls = network(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    optimizer = SGD(model.parameters(), 0.01)
    with watch(model, optimizer, inplace_armed_steps=0) as watched:
        checkpoint(model, bad(1), use_reentrant=False).square().mean().backward()
        optimizer.step()
        assert not math.isfinite(watched.only.loss)

    assert len(calls) == 2


def test_what_hooks_have_packed_is_not_unpacked():
    """Saved-tensor hooks of the user's see backward's own unpacking only."""
    model, unpacked = network(), []
    optimizer = SGD(model.parameters(), 0.01)

    def train() -> int:
        unpacked.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda t: unpacked.append(1) or t):
            loss = model(bad(1)).square().mean()
        loss.backward()
        return len(unpacked)

    bare = train()
    with watch(model, optimizer, inplace_armed_steps=0):
        assert train() == bare > 0


@pytest.mark.parametrize("case", ["retained", "higher order", "freed", "leaf", "vector"])
def test_unusual_backwards_are_no_fault(case):
    """A graph that is kept, differentiated twice, partly freed, or none at all."""
    loop = Loop()
    with watch(loop.model, loop.optimizer) as watched:
        loss = loop.model(bad(1)).square().mean()
        if case == "retained":
            loss.backward(retain_graph=True)
            loss.backward()
        elif case == "higher order":
            torch.autograd.grad(loss, loop.model[0].weight, create_graph=True)[0].norm().backward()
        elif case == "freed":
            loss.backward(retain_graph=True)
            hidden = loop.model[0](bad(1))
            hidden.sum().backward()
            with pytest.raises(RuntimeError, match="a second time"):
                (hidden.square().sum() + loss).backward()
        elif case == "leaf":
            torch.tensor(NAN, requires_grad=True).backward()
            loss.backward()
        else:
            loop.model(bad(1)).backward(torch.ones(6, 1))
        loop.optimizer.step()
        assert watched.reports
        assert watched.agent.internal_errors == {}


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda outputs: torch.where(outputs > 9e9, torch.log(outputs * 0), outputs).square().mean(),
        lambda outputs: outputs.masked_fill(torch.eye(6, 1).bool(), -math.inf).softmax(0).sum(),
        lambda outputs: torch.cat([outputs, torch.full((6, 1), -math.inf)], 1).logsumexp(1).mean(),
        lambda outputs: nn.functional.ctc_loss(
            outputs.expand(6, 5).log_softmax(1), torch.ones(2, dtype=torch.long), torch.tensor(6), torch.tensor(2)
        ),
    ],
    ids=["log of zero that is not used", "mask", "probability zero", "ctc"],
)
def test_infinities_that_are_meant_are_no_origin(loss_of):
    """Minus infinity in masks, logarithms and alignments is at home there: with a finite loss nothing is told."""
    loop = Loop()
    with watch(loop.model, loop.optimizer) as watched:
        loss = loss_of(loop.model(batch()))
        assert math.isfinite(loss.item())
        loss.backward()

        assert [report.origin for report in watched.reports] == [None] * len(watched.reports)
        assert [record for record in watched.memory.records if isinstance(record, HealthReport)] == []


def test_training_goes_on_bit_for_bit():
    """Losses that are NaN now and then leave the same weights with and without a search."""

    def train(loop: Loop) -> torch.Tensor:
        for row in (None, 1, None, 2, None):
            loop.step(None if row is None else bad(row), is_taken=row is None)
        return weights(loop.model)

    loop = Loop()
    with watch(loop.model, loop.optimizer):
        watched = train(loop)

    assert torch.equal(watched, train(Loop()))


def test_a_search_is_no_sync_of_the_users():
    """Where syncs are simulated on the CPU, neither a healthy step nor a search brings one."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, sync_device="cpu", sync_interval=1, inplace_armed_steps=0) as watched:
        for row in (None, 1, None):
            loop.step(None if row is None else bad(row), is_taken=row is None)
        reports = watched.reports

    assert [report.syncs for report in reports] == [()] * 3
    assert reports[1].origin is not None


def test_a_healthy_step_reads_no_element_by_an_operator():
    """Whether the loss is finite is seen in its memory: no `_local_scalar_dense` in a profile of healthy steps."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, inplace_armed_steps=0) as watched:
        loop.step()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            loop.step()
            loop.step()
        assert len(watched.reports) == 3

    assert "aten::_local_scalar_dense" not in {entry.key for entry in profiled.key_averages()}
