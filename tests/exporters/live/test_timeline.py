"""/api/live: the whole of one agent, bounded, and to a reader that says what it has only what is new."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest
from tests.builders import (
    anomaly,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    health_report,
    layer_statistics,
    run_info,
    self_report,
    step_report,
)
from tests.web import request

from loopscope_exporters.live import LiveExporter
from loopscope_exporters.live.agents import MAX_EVENTS
from loopscope_exporters.live.timeline import MAX_EVENT_CHARACTERS
from loopscope_exporters.server import MetricsServer


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """A server of its own."""
    server = MetricsServer(port=0)
    server.retain()
    yield server
    server.release()


@pytest.fixture
def exporter(server: MetricsServer) -> Iterator[LiveExporter]:
    """An exporter on it, which knows its run."""
    exporter = LiveExporter(server)
    exporter.export(run_info())
    yield exporter
    exporter.close()


def ask(server: MetricsServer, query: str = "", path: str = "/api/live") -> dict:
    """The answer, read by a strict parser."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    answer = request(f"{server.url}{path}{query}")
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    return json.loads(answer.body, parse_constant=refuse)


def test_before_the_first_step_all_is_there_and_empty(server, exporter) -> None:
    """A page that is opened early finds the run, and nulls."""
    answer = ask(server)

    assert answer["agents"] == [{"agent": "model", "optimizers": []}]
    assert (answer["run"]["model"], answer["step"], answer["history"], answer["layers"]) == (
        "Sequential",
        None,
        None,
        None,
    )
    assert answer["events"] == answer["epochs"] == {"next": 0, "entries": []}


def test_what_is_known_is_told(server, exporter) -> None:
    """Step, layers, history, health, events and epochs are those that were exported."""
    sampled = gradient_table(sample=gradient_sample())
    for record in (
        step_report(0, gradients=sampled),
        step_report(1, loss=math.nan, gradients=gradient_table([1.0, 2.0, math.nan, 3.0], num_nonfinite=[0, 0, 7, 0])),
        self_report(),
        health_report(anomaly()),
        event(step=1),
        epoch_report(gradients=layer_statistics(health=("healthy", "exploding"), health_rule=("", "loss_spike"))),
    ):
        exporter.export(record)

    answer = ask(server)

    assert answer["step"]["step"] == 1
    assert "names" not in answer["step"]["gradients"]
    assert answer["layers"]["names"] == ["encoder", "head"]
    assert answer["layers"]["columns"]["norm"] == [pytest.approx(math.sqrt(5)), "NaN"]
    assert (answer["layers"]["sampled_step"], answer["layers"]["columns"]["weight_norm"]) == (0, [2.0, 4.0])
    assert answer["history"]["columns"]["loss_mean"] == [2.5, "NaN"]
    assert answer["history"]["layer_norms"][1] == [10.0, "NaN"]
    assert answer["health"]["anomalies"][0]["layers"] == ["head"]
    assert answer["events"]["entries"][0]["kind"] == "nonfinite_gradient"
    assert answer["epochs"]["entries"][0]["layers"] == {"head": ["exploding", "loss_spike"]}
    assert answer["self"]["overhead_ratio"] == 0.008


def test_only_what_is_new_comes_again(server, exporter) -> None:
    """With the numbers of the answer before, the next one has the last span again and what came since."""
    for step in range(10):
        exporter.export(step_report(step))
        exporter.export(event(step=step))
    before = ask(server)
    exporter.export(step_report(10))
    exporter.export(event(step=10))
    exporter.export(epoch_report())

    history = before["history"]
    query = f"?width={history['width']}&first={history['num_spans'] - 1}&event={before['events']['next']}&epoch=0"
    answer = ask(server, query)

    assert (answer["history"]["first"], answer["history"]["num_spans"]) == (9, 11)
    assert answer["history"]["columns"]["num_steps"] == [1, 1]
    assert [each["step"] for each in answer["events"]["entries"]] == [10]
    assert answer["events"]["next"] == 11
    assert len(answer["epochs"]["entries"]) == 1


def test_events_are_bounded_and_numbered_through(server, exporter) -> None:
    """The last MAX_EVENTS are kept; who asks for an older number, or one that never was, gets what is kept."""
    for step in range(MAX_EVENTS + 50):
        exporter.export(event(step=step))

    for number in (0, 10, 10**9):
        events = ask(server, f"?event={number}")["events"]
        assert (events["next"], len(events["entries"])) == (MAX_EVENTS + 50, MAX_EVENTS)


def test_an_event_of_any_length_is_told_shortly(server, exporter) -> None:
    """Its texts are cut, of its attributes the incident stays; one of usual length is told whole."""
    attributes = {"incident": 4, "batch": "y" * 10**6}
    exporter.export(event(message="x" * 10**6, remedy="z" * 10**6, attributes=attributes, site="train.py:3"))
    exporter.export(event(message="short", attributes={"batch": "y"}))

    long, short = ask(server)["events"]["entries"]

    assert len(json.dumps(long)) < MAX_EVENT_CHARACTERS
    assert (long["message"][:2], long["message"][-1], long["site"]) == ("xx", "…", "train.py:3")
    assert long["attributes"] == {"incident": 4}
    assert (short["message"], short["attributes"]) == ("short", {"batch": "y"})


def test_names_that_are_no_text_do_not_end_the_answer(server, exporter) -> None:
    """Lone surrogates, as in the paths of files, quotes and line ends; what JSON has no number for likewise."""
    layers = ('a"b\n\udc80', "c")
    odd = {"a": math.nan, "b": [math.inf, {"c": -math.inf}]}
    for record in (
        run_info(layers=layers, settings=odd),
        step_report(0, loss=-math.inf, gradients=gradient_table(layers=layers)),
        event(site="/data/\udce9.py:3", value=math.nan, threshold=math.inf, attributes=odd),
        epoch_report(loss=math.nan, global_norm={"mean": math.inf, "max": math.nan}),
    ):
        exporter.export(record)

    answer = ask(server)

    assert answer["history"]["layers"] == list(layers)
    assert answer["events"]["entries"][0]["site"] == "/data/\udce9.py:3"
    assert answer["events"]["entries"][0]["attributes"] == {"a": "NaN", "b": ["Infinity", {"c": "-Infinity"}]}
    assert answer["epochs"]["entries"][0]["norm_mean"] == "NaN"
    assert ask(server, path="/api/parameters")["layers"] == list(layers)
    assert ask(server, path="/api/state")["agents"]["model"]["step"]["loss"] == "-Infinity"


def test_agents_and_optimizers_are_chosen(server, exporter) -> None:
    """Each agent has its optimizers, each optimizer its history; the first is taken where none is named."""
    other = LiveExporter(server)
    other.export(run_info(agent="critic"))
    exporter.export(step_report(0))
    for optimizer, loss in (("g", 1.0), ("c", 2.0)):
        other.export(step_report(3, agent="critic", optimizer=optimizer, loss=loss))

    assert ask(server)["agents"] == [
        {"agent": "model", "optimizers": [None]},
        {"agent": "critic", "optimizers": ["g", "c"]},
    ]
    assert ask(server, "?agent=critic")["history"]["columns"]["loss_mean"] == [1.0]
    answer = ask(server, "?agent=critic&optimizer=c")
    assert (answer["agent"], answer["optimizer"]) == ("critic", "c")
    assert answer["history"]["columns"]["loss_mean"] == [2.0]
    other.close()
    assert request(f"{server.url}/api/live?agent=critic").status == 404


@pytest.mark.parametrize("path", ["/api/live", "/api/parameters"])
@pytest.mark.parametrize(
    ("query", "said"), [("?agent=nobody", "There are: model."), ("?agent=model&optimizer=adam", "adam")]
)
def test_who_is_not_there_is_not_found(server, exporter, path: str, query: str, said: str) -> None:
    """The answer names what was asked for and what there is."""
    exporter.export(step_report(0))

    answer = request(server.url + path + query)

    assert answer.status == 404
    assert said in json.loads(answer.body)["error"]


@pytest.mark.parametrize("value", ["-1", "1.5", "x", "", "9" * 30, "%C2%B2"])
def test_wrong_numbers_are_refused(server, exporter, value: str) -> None:
    """A number that cannot be one is a 400 that says what is allowed."""
    answer = request(f"{server.url}/api/live?width={value}")

    assert answer.status == 400
    assert "Allowed: 0, 1, 2" in json.loads(answer.body)["error"]


@pytest.mark.parametrize("path", ["/api/live", "/api/parameters"])
def test_a_query_of_too_many_fields_is_refused(server, exporter, path: str) -> None:
    """It is the reader's fault, and none of the server."""
    answer = request(f"{server.url}{path}?{'&'.join(f'a{number}=1' for number in range(40))}")

    assert answer.status == 400
    assert "more than 16 fields" in json.loads(answer.body)["error"]
    assert server.num_faults == 0


def test_every_parameter_is_there(server, exporter) -> None:
    """Norms are of the latest step, the rest of the latest sampled one; without any step there is nothing."""
    assert ask(server, path="/api/parameters")["names"] == []

    exporter.export(step_report(0, gradients=gradient_table(sample=gradient_sample())))
    exporter.export(
        step_report(1, gradients=gradient_table([1.0, math.nan, 2.0, math.inf], num_nonfinite=[0, 0, 0, 4]))
    )
    answer = ask(server, path="/api/parameters")

    assert answer["names"] == ["encoder.0.weight", "encoder.1.weight", "head.2.weight", "head.3.weight"]
    assert (answer["layers"], answer["layer_index"]) == (["encoder", "head"], [0, 0, 1, 1])
    assert (answer["step"], answer["sampled_step"]) == (1, 0)
    assert answer["columns"]["norm"] == [1.0, None, 2.0, "NaN"]
    assert answer["columns"]["update_ratio"] == [0.001, 0.002, 0.003, 0.004]
    assert answer["num_nonfinite"] == [0, 0, 0, 4]
