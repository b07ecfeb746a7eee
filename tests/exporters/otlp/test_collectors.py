"""Laws of the way to a collector, each on a real one: what arrives, when it is down, slow or refuses."""

from __future__ import annotations

import logging
import time

import pytest
from tests import builders
from tests.otlp_exporting import exporting
from tests.otlp_receiver import attributes_of, receive
from tests.waiting import wait_until

GRPC, HTTP = "grpc", "http/protobuf"
both = pytest.mark.parametrize("protocol", [GRPC, HTTP])


def tell(exporter, *steps):
    """Export an incident at each step: an event, the step, and so a log record and a span."""
    for step in steps:
        event = builders.event(step=step, message=f"at {step}")
        exporter.export(builders.step_report(step, events=(event,)))
        exporter.export(event)


def told(receiver):
    """Return the steps whose log records have arrived, in the order of their arrival."""
    return [attributes_of(record)["step"] for record in receiver.logs()]


@both
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("is_unix", [False, True], ids=["tcp", "unix"])
def test_every_signal_arrives(protocol, compression, is_unix, tmp_path):
    """Metrics, logs and spans arrive over TCP and unix sockets, compressed or not."""
    with receive(protocol, f"unix:{tmp_path}/otel.sock" if is_unix else "127.0.0.1:0") as receiver:
        with exporting(receiver.endpoint, protocol, compression=compression) as exporter:
            tell(exporter, 3)
        wait_until(lambda: receiver.metrics() and receiver.logs() and receiver.spans())

        assert receiver.values("loopscope.step") == {(): 3.0}
        assert told(receiver) == [3]
        assert {span.name for span in receiver.spans()} == {"step", "epoch"}
        assert exporter.num_dropped == {"metrics": 0, "logs": 0, "traces": 0}


@both
def test_headers_arrive(protocol):
    """Headers are sent with every request of their signal."""
    variables = {"headers": "x-tenant=seven%20eight", "logs_headers": "X-Own=1"}
    with receive(protocol) as receiver:
        with exporting(receiver.endpoint, protocol, **variables) as exporter:
            tell(exporter, 1)
        wait_until(lambda: len({request.signal for request in receiver.requests}) == 3)

        for request in receiver.requests:
            expected = {"x-own": "1"} if request.signal == "logs" else {"x-tenant": "seven eight"}
            assert {name: request.headers.get(name) for name in expected} == expected
            assert len({"x-own", "x-tenant"} & set(request.headers)) == 1


@both
def test_large_requests_arrive(protocol):
    """A request above every window of HTTP/2 and every buffer of a socket arrives whole."""
    text = "long " * 300_000  # 1.5 MB
    with receive(protocol) as receiver:
        with exporting(receiver.endpoint, protocol) as exporter:
            exporter.export(builders.event(message=text))
            (record,) = wait_until(receiver.logs)

        assert record.body.string_value == text


@both
def test_a_collector_that_is_restarted(protocol, tmp_path, caplog):
    """Counters go on where they are; events of the meantime arrive, once; the failure of a signal is told of once."""
    caplog.set_level(logging.INFO, "loopscope")
    address = f"unix:{tmp_path}/otel.sock"
    with receive(protocol, address) as first, exporting(first.endpoint, protocol) as exporter:
        tell(exporter, 0, 1)
        wait_until(lambda: first.values("loopscope.steps") == {(): 2.0} and told(first) == [0, 1])
        first.kill()
        tell(exporter, 2, 3)
        wait_until(lambda: caplog.text.count("does not take") == 3)
        (tmp_path / "otel.sock").unlink(missing_ok=True)
        with receive(protocol, address) as second:
            wait_until(lambda: second.values("loopscope.steps") == {(): 4.0} and told(second) == [2, 3], seconds=20)
            tell(exporter, 4)
            wait_until(lambda: second.values("loopscope.steps") == {(): 5.0} and told(second) == [2, 3, 4], seconds=20)

            starts = {
                point.start_time_unix_nano
                for metrics in (first.metrics(), second.metrics())
                for point in metrics["loopscope.steps"].sum.data_points
            }
            assert len(starts) == 1
            assert caplog.text.count("does not take") == 3
            assert exporter.num_dropped == {"metrics": 0, "logs": 0, "traces": 0}


@pytest.mark.parametrize(
    ("protocol", "how"),
    [
        (GRPC, {"status": "UNAVAILABLE"}),
        (GRPC, {"status": "ABORTED", "retry_after": 1.5}),
        (GRPC, {"status": "RESOURCE_EXHAUSTED", "retry_after": 1.5}),
        (HTTP, {"status": 503}),
        (HTTP, {"status": 502}),
        (HTTP, {"status": 429, "retry_after": 2}),
        (HTTP, {"status": 503, "retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        (HTTP, {"status": 429, "retry_after": "soon"}),
    ],
)
def test_what_may_be_sent_again_is(protocol, how):
    """What OTLP calls retryable is kept and sent again, no earlier than the collector asks."""
    with receive(protocol) as receiver, exporting(receiver.endpoint, protocol) as exporter:
        receiver.answer(signal="logs", **how)
        tell(exporter, 1)
        wait_until(lambda: any(request.signal == "logs" for request in receiver.requests))
        refused = time.monotonic()
        receiver.answer()
        wait_until(receiver.logs)

        assert told(receiver) == [1]
        asked = how.get("retry_after")
        assert time.monotonic() - refused >= (asked - 0.2 if isinstance(asked, int | float) else 0.5)
        assert exporter.num_dropped["logs"] == 0


@pytest.mark.parametrize(
    ("protocol", "how", "reason"),
    [
        (GRPC, {"status": "RESOURCE_EXHAUSTED"}, "gRPC RESOURCE_EXHAUSTED as asked, 100 %"),
        (GRPC, {"status": "INVALID_ARGUMENT"}, "gRPC INVALID_ARGUMENT"),
        (GRPC, {"status": "UNAUTHENTICATED"}, "gRPC UNAUTHENTICATED"),
        (GRPC, {"status": "UNIMPLEMENTED"}, "gRPC UNIMPLEMENTED"),
        (HTTP, {"status": 400}, "HTTP 400"),
        (HTTP, {"status": 401}, "HTTP 401"),
        (HTTP, {"status": 404}, "HTTP 404"),
        (HTTP, {"status": 413}, "HTTP 413"),
        (HTTP, {"status": 500}, "HTTP 500"),
        (HTTP, {"status": 302, "location": "http://127.0.0.1:1/"}, "HTTP 302"),
    ],
)
def test_what_is_refused_is_dropped_and_counted(protocol, how, reason, caplog):
    """A refusal is told of once with its reason, what was refused is counted, and what comes after is sent."""
    with receive(protocol) as receiver, exporting(receiver.endpoint, protocol) as exporter:
        receiver.answer(signal="logs", **how)
        tell(exporter, 1)
        wait_until(lambda: exporter.num_dropped["logs"] == 1)
        tell(exporter, 2)
        wait_until(lambda: exporter.num_dropped["logs"] == 2)
        receiver.answer()
        tell(exporter, 3)
        wait_until(receiver.logs)

        assert told(receiver) == [3]
        (warning,) = [record.getMessage() for record in caplog.records if "does not take logs" in record.getMessage()]
        assert reason in warning
        assert exporter.num_dropped["metrics"] == 0


@both
def test_partial_success(protocol, caplog):
    """What a collector rejects of a request that it takes is counted, and told with its reason."""
    with receive(protocol) as receiver, exporting(receiver.endpoint, protocol) as exporter:
        receiver.answer(rejected=1, signal="traces")
        tell(exporter, 1)
        wait_until(lambda: exporter.num_dropped["traces"] == 1)
        receiver.answer()

        assert len(receiver.spans()) == 1
        assert "1 rejected: too old" in caplog.text


@both
def test_a_slow_collector_holds_up_nobody(protocol):
    """While a collector takes a second for each request, `export` takes no time, and nothing is lost."""
    with receive(protocol) as receiver, exporting(receiver.endpoint, protocol) as exporter:
        receiver.answer(delay=1.0)
        tell(exporter, 0)
        wait_until(lambda: exporter.cpu_seconds > 0)
        begin = time.monotonic()
        tell(exporter, *range(1, 100))
        exporter.flush()
        seconds = time.monotonic() - begin
        wait_until(lambda: len(receiver.logs()) == 100)

        assert seconds < 0.5  # a hundred steps and events, while every request takes twice that
        assert told(receiver) == list(range(100))


@both
def test_a_collector_slower_than_the_timeout(protocol, caplog):
    """A request that is not answered within OTEL_EXPORTER_OTLP_TIMEOUT has failed."""
    with receive(protocol) as receiver, exporting(receiver.endpoint, protocol, timeout="200") as exporter:
        receiver.answer(delay=1.0)
        tell(exporter, 1)
        wait_until(lambda: caplog.text.count("does not take") == 3)

        assert "timed out" in caplog.text
