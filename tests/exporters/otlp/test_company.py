"""Laws of living with others: the user's own OpenTelemetry is left alone, nothing is imported unasked."""

from __future__ import annotations

import threading

import pytest
from tests import builders
from tests.python_process import ROOT, run_python
from tests.waiting import wait_until

from loopscope_exporters.otlp.answers import Answer, Outcome
from loopscope_exporters.otlp.environment import Pace, read_settings
from loopscope_exporters.otlp.lane import Lane
from loopscope_exporters.otlp.resource import make_resource
from loopscope_exporters.otlp.waiting import Waiting

TRAIN = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import torch
from tests.loops import batch, network
import loopscope

def train(**settings):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with loopscope.attach(model, optimizer, port=None, **settings):
        for index in range(3):
            model(batch(index)).square().mean().backward()
            optimizer.step()
"""
NOBODY = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "LOOPSCOPE_LOG_EVENTS": "0"}


def test_nothing_is_imported_unasked():
    """Without the exporter neither OpenTelemetry nor HTTP/2 is imported; with it no SDK is, and no gRPC."""
    assert (
        run_python(
            "-W",
            "error",
            "-c",
            f"""{TRAIN}
import loopscope_exporters
train()
assert not [name for name in sys.modules if name.startswith(("opentelemetry", "h2", "grpc"))]
train(exporters=("otlp",))
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.metrics", "grpc"))]
""",
            variables=NOBODY,
        ).stdout
        == ""
    )


@pytest.mark.parametrize(("blocked", "protocol"), [("opentelemetry", "http/protobuf"), ("h2", "grpc")])
def test_a_package_that_is_missing(blocked, protocol):
    """Without its packages attach says which extra to install."""
    assert (
        run_python(
            "-c",
            f"""{TRAIN}
sys.modules[{blocked!r}] = None
try:
    train(exporters=("otlp",))
except ImportError as fault:
    assert "pip install 'loopscope[otlp]'" in str(fault), fault
else:
    raise AssertionError("no ImportError")
""",
            variables={**NOBODY, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol},
        ).stdout
        == ""
    )


def test_h2_is_not_needed_for_http():
    """Over HTTP the exporter works without the packages for gRPC."""
    assert (
        run_python("-c", f"{TRAIN}\nsys.modules['h2'] = None\ntrain(exporters=('otlp',))", variables=NOBODY).stdout
        == ""
    )


def test_the_users_own_sdk_is_left_alone():
    """The user's providers, readers and loggers see nothing of ours, and are after a run what they were before it."""
    assert (
        run_python(
            "-W",
            "error",
            "-c",
            f"""{TRAIN}
import atexit, logging
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
metrics.set_meter_provider(MeterProvider([reader]))
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracers)
loggers = {{name: (list(logger.handlers), list(logger.filters), logger.level)
           for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)}}
counts = []
for _ in range(3):
    train()
    counts.append(atexit._ncallbacks())
with trace.get_tracer("mine").start_as_current_span("training"):
    metrics.get_meter("mine").create_counter("mine").add(1)
    train(exporters=("otlp",))
    assert trace.get_current_span().get_span_context().is_valid

assert atexit._ncallbacks() - counts[2] == counts[2] - counts[1], "handlers of the agent only"
assert [span.name for span in spans.get_finished_spans()] == ["training"]
scopes = [scope.scope.name for r in reader.get_metrics_data().resource_metrics for scope in r.scope_metrics]
assert scopes == ["mine"], scopes
for name, state in loggers.items():
    logger = logging.getLogger(name)
    assert (list(logger.handlers), list(logger.filters), logger.level) == state, name
""",
            variables=NOBODY,
        ).stdout
        == ""
    )


def test_switched_off():
    """With OTEL_SDK_DISABLED nothing is sent, and no thread is started."""
    assert (
        run_python(
            "-c",
            f"""{TRAIN}
import threading
names = set()
start = threading.Thread.start
threading.Thread.start = lambda self: (names.add(self.name), start(self))[1]
train(exporters=("otlp",))
assert "loopscope-worker" in names and not [name for name in names if "otlp" in name], names
""",
            variables={**NOBODY, "OTEL_SDK_DISABLED": "true"},
        ).stdout
        == ""
    )


class Broken:
    """A transport with a fault of ours: it raises once, and delivers from then on."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.has_raised = False

    def send(self, body: bytes, timeout_seconds: float) -> Answer:
        """Raise, or deliver."""
        if not self.has_raised:
            self.has_raised = True
            raise ZeroDivisionError("ours")
        self.sent.append(body)
        return Answer(outcome=Outcome.DELIVERED)

    def abort(self) -> None:
        """Do nothing: no request takes any time."""


def test_a_fault_of_ours_is_raised_where_it_is_counted():
    """What a thread dies of is raised by the next look at it, once, and another thread goes on."""
    transport = Broken()
    source = Waiting(bytes, Pace(max_waiting=10, max_batch=1, delay_seconds=0.01))
    lane = Lane(
        "logs", transport, source, name="nobody", timeout_seconds=1.0, interval_seconds=0.01, jitter=lambda: 0.5
    )
    source.put(1)
    lane.start()
    wait_until(
        lambda: transport.has_raised and not [t for t in threading.enumerate() if t.name == "loopscope-otlp-logs"]
    )
    with pytest.raises(ZeroDivisionError, match="ours"):
        lane.check()
    lane.check()
    source.put(2)
    wait_until(lambda: transport.sent == [bytes([2])])
    lane.end(0.0)
    lane.join()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"service.name": "loopscope", "rank": 3, "run": "run-1", "host.name": "localhost", "process.pid": 1}),
        ({"OTEL_SERVICE_NAME": "mine"}, {"service.name": "mine"}),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "host.name=node-7,service.instance.id=a,team=vision"},
            {"service.name": "loopscope", "host.name": "node-7", "service.instance.id": "a", "team": "vision"},
        ),
    ],
)
def test_resource(variables, expected):
    """The resource says which process of which run; what the environment says of it wins."""
    resource = make_resource(builders.run_info(rank=3), read_settings(variables).resource)
    found = {pair.key: pair.value.string_value or pair.value.int_value for pair in resource.attributes}

    assert {name: found.get(name) for name in expected} == expected


def test_instance_ids_are_unique():
    """Another rank, process or start is another instance; the same one has the same id."""
    runs = [builders.run_info(), builders.run_info(rank=1), builders.run_info(pid=2), builders.run_info(run="run-2")]
    ids = [
        next(pair.value.string_value for pair in make_resource(run, {}).attributes if pair.key == "service.instance.id")
        for run in [*runs, builders.run_info()]
    ]

    assert len(set(ids)) == 4
    assert ids[0] == ids[-1]
