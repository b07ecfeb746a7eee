"""Laws of the page: its agents share it and leave it, a scrape is of one moment, and a real Prometheus reads it."""

from __future__ import annotations

import math
import sys
import threading

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.builders import epoch_report, event, gradient_table, run_info, step_report
from tests.prometheus_server import PrometheusServer
from tests.scraping import OPENMETRICS, everything, export, labels_of, scrape, value
from tests.web import request

from loopscope_exporters.prometheus import PrometheusExporter
from loopscope_exporters.server import MetricsServer

inf = math.inf
needs_prometheus = pytest.mark.skipif(
    not PrometheusServer.is_installed(), reason="prometheus is not installed (apt-get install prometheus)"
)


def test_agents_share_one_page_with_each_family_once(server, exporter):
    """Two agents of a server are told apart by their label; HELP and TYPE stand once."""
    second = PrometheusExporter(server)
    export(exporter, run_info(agent="a"), step_report(1, agent="a"))
    export(second, run_info(agent="b"), step_report(2, agent="b"), step_report(3, agent="b"))

    text = request(server.url + "/metrics").text
    samples = scrape(server, OPENMETRICS)
    second.close()

    assert text.count("# TYPE loopscope_steps_total counter\n") == 1
    assert value(samples, "loopscope_steps_total", agent="a") == 1
    assert value(samples, "loopscope_steps_total", agent="b") == 2


def test_a_closed_agent_leaves_the_page(server, exporter):
    """After close its series are gone and those of the others stay; closing twice is closing once."""
    second = PrometheusExporter(server)
    export(exporter, run_info(agent="a"))
    export(second, run_info(agent="b"))

    second.close()
    second.close()

    assert labels_of(scrape(server), "loopscope_steps_total", "agent") == {"a"}


def test_the_last_exporter_closes_the_server():
    """The server ends with its last exporter, not before."""
    server = MetricsServer(port=0)
    first, second = PrometheusExporter(server), PrometheusExporter(server)

    first.close()
    assert not server.is_closed
    second.close()

    assert server.is_closed


def test_the_default_registry_is_left_alone(exporter):
    """Our families are not in the user's registry, and the user's counters keep their `_created` samples."""
    export(exporter, *everything())
    registry = CollectorRegistry()
    Counter("users_own", "A counter of the user.", registry=registry).inc()

    assert "loopscope" not in generate_latest(REGISTRY).decode()
    assert "users_own_created" in generate_latest(registry).decode()


def test_our_page_has_no_created_samples(server, exporter):
    """`_created` would be one more series for each counter and histogram."""
    export(exporter, *everything())

    assert "_created" not in request(server.url + "/metrics").text


def test_a_scrape_can_ask_for_some_families(server, exporter):
    """`?name[]=` restricts the page, as with prometheus_client's own registries."""
    export(exporter, *everything())

    text = request(server.url + "/metrics?name[]=loopscope_steps_total&name[]=loopscope_loss").text

    assert {family.name for family in text_string_to_metric_families(text)} == {"loopscope_steps", "loopscope_loss"}


@pytest.mark.parametrize(
    ("durations", "rests"),
    [
        ((None,), True),
        ((0.001,), True),
        ((0.05,), False),
        ((0.05,) * 3, True),
        ((2.0,) * 3, False),
        ((2.0, 0.001), True),
    ],
    ids=["unknown", "short", "long", "long, and much to say", "very long", "long and short"],
)
def test_an_answer_rests_only_where_a_step_would_feel_it(server, exporter, monkeypatch, durations, rests):
    """Where steps are short the lines come a few at a time; where all are long each rest would only cost time."""
    layers = tuple(f"layer{index}" for index in range(20))
    export(exporter, run_info())
    for number, duration in enumerate(durations):
        gradients = gradient_table([1.0] * len(layers), layers=layers)
        labels = {"optimizer": f"optimizer-{number}", "duration_seconds": duration}
        export(exporter, step_report(1, gradients=gradients, **labels))
    num_rests: list[int] = []
    monkeypatch.setattr("loopscope_exporters.yielding.time.sleep", lambda _: num_rests.append(1))
    num_samples = len(scrape(server))

    assert num_samples > 100
    assert (len(num_rests) > num_samples / 10) == rests


def test_a_scrape_never_mixes_two_steps(server, exporter):
    """While steps pour in, loss, rate, norms and counters of a scrape agree, and counters never fall."""
    export(exporter, run_info())
    has_ended = threading.Event()

    def pour() -> None:
        step = 0
        while not has_ended.is_set():
            step += 1
            table = gradient_table((float(step),), layers=("layer",), global_norm=float(step))
            exporter.export(step_report(step, loss=float(step), learning_rates=(float(step),), gradients=table))

    thread = threading.Thread(target=pour)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        seen = [scrape(server) for _ in range(100)]
    finally:
        has_ended.set()
        thread.join()
        sys.setswitchinterval(interval)

    names = {
        "loopscope_step",
        "loopscope_loss",
        "loopscope_learning_rate",
        "loopscope_gradient_norm",
        "loopscope_gradient_global_norm",
        "loopscope_steps_total",
        "loopscope_step_duration_seconds_count",
    }
    mixes = [{number for (name, _), number in samples.items() if name in names} - {0.0} for samples in seen]
    assert all(len(mix) <= 1 for mix in mixes), mixes
    steps = [max(mix, default=0.0) for mix in mixes]
    assert steps == sorted(steps)
    assert steps[-1] > 0


def test_closing_during_scrapes_breaks_none(server):
    """Agents come and go while the page is scraped: every answer is a whole page."""
    has_ended = threading.Event()

    def come_and_go() -> None:
        while not has_ended.is_set():
            exporter = PrometheusExporter(server)
            export(exporter, *everything())
            exporter.close()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        answers = [request(server.url + "/metrics", headers={"Accept": OPENMETRICS}) for _ in range(30)]
    finally:
        has_ended.set()
        thread.join()

    assert {answer.status for answer in answers if answer.text.endswith("# EOF\n")} == {200}
    assert server.num_faults == 0


@needs_prometheus
def test_a_real_prometheus_reads_the_values(server, exporter, tmp_path):
    """Queries of a real Prometheus return exactly what was fed, before and after further steps."""
    broken = gradient_table((3.0, 4.0, inf, 8.0), num_nonfinite=(0, 0, 2, 0))
    export(exporter, run_info(rank=0), *(step_report(step, rank=0) for step in range(5)))

    with PrometheusServer(tmp_path, [f"127.0.0.1:{server.port}"]) as prometheus:
        prometheus.wait_for("loopscope_steps_total == 5")
        # The step last: once it is scraped, so are the others.
        export(exporter, epoch_report(rank=0), event(rank=0), step_report(5, rank=0, gradients=broken, loss=0.1))
        prometheus.wait_for("loopscope_steps_total == 6")
        results = {
            expression: list(prometheus.query(expression).values())
            for expression in (
                "loopscope_loss{source='backward'}",
                "loopscope_gradient_norm{layer='encoder'}",
                "loopscope_gradient_norm{layer='head'}",
                "loopscope_gradient_nonfinite_total{layer='head', rank='0'}",
                "loopscope_anomalies_total{kind='nonfinite_gradient'}",
                "loopscope_step_duration_seconds_bucket{le='0.1'}",
                "loopscope_epoch_gradient_norm{layer='head', stat='max'}",
                "count(loopscope_run_info{run='run-1', torch='2.13.0'})",
                "sum(increase(loopscope_gradient_nonfinite_total[1m])) > bool 0",
            )
        }

    assert list(results.values()) == [[0.1], [5.0], [inf], [2.0], [1.0], [6.0], [18.0], [1.0], [1.0]]


@needs_prometheus
def test_a_real_prometheus_forgets_a_closed_agent(server, exporter, tmp_path):
    """When an agent closes, its series become stale at the next scrape, while the other's stay."""
    second = PrometheusExporter(server)
    export(exporter, run_info(agent="a"))
    export(second, run_info(agent="b"))

    with PrometheusServer(tmp_path, [f"127.0.0.1:{server.port}"]) as prometheus:
        prometheus.wait_for("count(loopscope_steps_total) == 2")
        second.close()
        prometheus.wait_for("count(loopscope_steps_total) == 1")

        assert set(prometheus.query("loopscope_steps_total{agent='a'}").values()) == {0.0}
