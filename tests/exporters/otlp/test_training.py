"""Laws of a real training: what arrives at a collector is what the other exporters got of the same steps."""

from __future__ import annotations

import math

import pytest
import torch
from tests.loops import batch, network, samples, watch
from tests.otlp_exporting import QUICK
from tests.otlp_receiver import attributes_of, receive
from tests.waiting import wait_until
from torch.utils.data import DataLoader

import loopscope
from loopscope_exporters.jsonl import read

NUM_EPOCHS = 2


@pytest.fixture(params=["grpc", "http/protobuf"])
def receiver(request, monkeypatch):
    """A collector that the environment names."""
    with receive(request.param) as receiver:
        for name, value in {
            **QUICK,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": request.param,
            "OTEL_SERVICE_NAME": "digits",
        }.items():
            monkeypatch.setenv(name, value)
        yield receiver


def train(**settings):
    """Train two epochs of five steps, in the second of which a gradient becomes NaN; return what memory got."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with watch(model, optimizer, exporters=("otlp",), **settings) as watched:
        for epoch in range(NUM_EPOCHS):
            for index, inputs in enumerate(DataLoader(samples(20), batch_size=4)):
                optimizer.zero_grad()
                loss = model(inputs).square().mean()
                (loss * math.nan if (epoch, index) == (1, 2) else loss).backward()
                optimizer.step()
        watched.agent.flush(10)
    return watched.memory


def test_values_are_those_of_memory_and_log(receiver, tmp_path):
    """Norms, losses, counts and durations at the collector are those in memory and in the log, to the last digit."""
    memory = train(jsonl=str(tmp_path / "log"))
    last = memory.steps[-1]
    (*_, logged) = (entry for entry in read(tmp_path / "log") if entry["type"] == "step")
    num_steps = len(memory.steps)
    wait_until(lambda: receiver.values("loopscope.steps") == {(): float(num_steps)})

    def equal(name, expected):
        found = {labels[-1][1] if labels else None: value for labels, value in receiver.values(name).items()}
        assert found == pytest.approx(expected, rel=0, abs=0, nan_ok=True), name

    assert num_steps == 10
    equal("loopscope.step", {None: 9})
    equal("loopscope.epoch", {None: 1})
    equal("loopscope.loss", {"backward": last.loss})
    equal("loopscope.gradient.norm", dict(zip(last.gradients.layers, last.gradients.layer_norms.tolist(), strict=True)))
    layer_norms = [float(norm) for norm in logged["gradients"]["layer_norms"]]
    equal("loopscope.gradient.norm", dict(zip(last.gradients.layers, layer_norms, strict=True)))
    equal("loopscope.gradient.global_norm", {"post_clip": last.gradients.global_norm})
    equal("loopscope.last_step.timestamp", {None: last.time_unix_seconds})
    (duration,) = receiver.metrics()["loopscope.step.duration"].exponential_histogram.data_points
    seconds = [report.duration_seconds for report in memory.steps if report.duration_seconds is not None]
    assert (duration.count, duration.sum) == (len(seconds), pytest.approx(sum(seconds), rel=1e-12))
    assert (duration.min, duration.max) == (min(seconds), max(seconds))


def test_events_and_spans_are_those_of_memory(receiver):
    """Every event is a log record, every epoch a span, every step with an incident one within its epoch's."""
    memory = train()
    incidents = [step for step in memory.steps if any(e.severity in {"warning", "critical"} for e in step.events)]
    wait_until(lambda: len(receiver.logs()) >= len(memory.events) and len(receiver.spans()) >= len(incidents) + 2)
    spans = {name: [span for span in receiver.spans() if span.name == name] for name in ("step", "epoch")}
    epochs = {span.span_id: attributes_of(span)["epoch"] for span in spans["epoch"]}

    assert any(event.kind == "nonfinite_gradient" for event in memory.events)
    assert [record.event_name for record in receiver.logs()] == [f"loopscope.{event.kind}" for event in memory.events]
    assert [attributes_of(record)["step"] for record in receiver.logs()] == [event.step for event in memory.events]
    assert [attributes_of(span)["step"] for span in spans["step"]] == [step.step for step in incidents]
    assert [epochs[span.parent_span_id] for span in spans["step"]] == [step.epoch for step in incidents]
    at_step = {span.span_id for span in spans["step"]}
    nonfinite = [record for record in receiver.logs() if record.event_name == "loopscope.nonfinite_gradient"]
    assert {record.span_id for record in nonfinite} <= at_step


def test_resource(receiver):
    """Every signal comes from the same process, run and host, under the service's name; a single rank has no rank."""
    memory = train(run="night-7")
    wait_until(lambda: receiver.metrics() and receiver.spans())
    run = memory.run
    resources = [
        attributes_of(entry.resource)
        for signal, field in (("metrics", "resource_metrics"), ("logs", "resource_logs"), ("traces", "resource_spans"))
        for message in receiver.taken(signal)
        for entry in getattr(message, field)
    ]

    assert {resource["service.instance.id"] for resource in resources} == {resources[0]["service.instance.id"]}
    assert resources[0] == resources[-1]
    expected = {"service.name": "digits", "host.name": run.host, "process.pid": run.pid, "run": "night-7"}
    assert {name: resources[0].get(name) for name in expected} == expected
    assert "rank" not in resources[0]


def test_training_is_the_same_with_it(receiver):
    """Weights after training are those without it, bit for bit."""
    weights = []
    for exporters in ((), ("otlp",)):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        with loopscope.attach(model, optimizer, port=None, exporters=exporters):
            for index in range(20):
                optimizer.zero_grad()
                model(batch(index)).square().mean().backward()
                optimizer.step()
        weights.append([parameter.detach().clone() for parameter in model.parameters()])

    assert all(torch.equal(first, second) for first, second in zip(*weights, strict=True))


def test_its_own_cost_is_told(receiver):
    """The CPU time of its threads is part of what the agent says that it costs."""
    model = network()
    with watch(model, torch.optim.SGD(model.parameters(), 0.01), exporters=("otlp",)) as watched:
        wait_until(receiver.metrics)

        # There is no server beside it.
        wait_until(lambda: watched.memory.latest_self and watched.memory.latest_self.overhead_seconds["server"] > 0)
