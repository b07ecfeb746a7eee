"""Laws of the series of health: every layer is in one state, and what is open is 1 while it is open."""

from __future__ import annotations

import pytest
from tests.builders import anomaly, gradient_table, health_report, run_info, step_report
from tests.scraping import export, labels_of, scrape, value

from loopscope.catalog import EVENT_KINDS, HEALTH_STATES, MAX_INCIDENTS
from loopscope.records import LayerState


def states(samples, **labels):
    """Return the states that are 1, by layer, after checking that each layer has one."""
    layers = labels_of(samples, "loopscope_layer_health", "layer")
    found = {
        layer: {
            state: value(samples, "loopscope_layer_health", layer=layer, state=state, **labels)
            for state in HEALTH_STATES
        }
        for layer in layers
    }
    assert all(sum(each.values()) == 1 for each in found.values())
    return {layer: max(each, key=each.get) for layer, each in found.items()}


def test_layers_are_healthy_until_told_otherwise(server, exporter):
    """Every layer with a gradient has all states, one of them 1; a state that ends leaves `healthy`."""
    export(exporter, run_info(), step_report(0))
    assert states(scrape(server)) == {"encoder": "healthy", "head": "healthy"}

    export(exporter, health_report(anomaly()))
    assert states(scrape(server)) == {"encoder": "healthy", "head": "nonfinite"}

    export(exporter, health_report())
    assert states(scrape(server)) == {"encoder": "healthy", "head": "healthy"}


def test_optimizers_have_states_of_their_own(server, exporter):
    """A layer that is ill under one optimizer is healthy under the other."""
    ill = {"critic": {"head": LayerState(state="dead", rule="dead_layer")}}
    for name in ("generator", "critic"):
        export(exporter, run_info(), step_report(0, optimizer=name))
    export(exporter, health_report(anomaly("dead_layer", optimizer="critic"), layers=ill))

    samples = scrape(server)

    assert states(samples, optimizer="critic") == {"encoder": "healthy", "head": "dead"}
    assert states(samples, optimizer="generator") == {"encoder": "healthy", "head": "healthy"}


def test_every_kind_is_there_from_the_start(server, exporter):
    """Alerts compare with 0: each kind has a series at attach; it is 1 while open, and 0 after."""
    export(exporter, run_info())
    samples = scrape(server)
    kinds = {kind.name for kind in EVENT_KINDS}
    assert {kind: value(samples, "loopscope_anomaly_active", kind=kind) for kind in kinds} == dict.fromkeys(kinds, 0)

    export(exporter, health_report(anomaly("loss_spike", "warning", layers=()), anomaly("dead_layer", "info")))
    samples = scrape(server)
    assert {kind for kind in kinds if value(samples, "loopscope_anomaly_active", kind=kind)} == {"loss_spike"}
    assert value(samples, "loopscope_incident_info", kind="loss_spike", layer="") == 1
    assert value(samples, "loopscope_incident_info", kind="dead_layer", layer="head") is None

    export(exporter, health_report())
    samples = scrape(server)
    assert value(samples, "loopscope_anomaly_active", kind="loss_spike") == 0
    assert labels_of(samples, "loopscope_incident_info", "kind") == set()


def test_open_incidents_are_bounded(server, exporter):
    """The latest 16 have a series; the others are counted, and the count does not fall when they close."""
    export(exporter, run_info())
    export(exporter, health_report(*(anomaly("dead_layer", layers=(f"layer{index}",)) for index in range(20))))

    samples = scrape(server)
    assert labels_of(samples, "loopscope_incident_info", "layer") == {
        f"layer{index}" for index in range(20 - MAX_INCIDENTS, 20)
    }
    assert value(samples, "loopscope_series_dropped_total") == 4

    export(exporter, health_report())
    assert value(scrape(server), "loopscope_series_dropped_total") == 4


@pytest.mark.parametrize("kind", ["home_made", 'a"b\n'])
def test_kinds_of_others_are_incidents_as_well(server, exporter, kind):
    """A kind that the catalog does not know is shown by its incident."""
    export(exporter, run_info(), health_report(anomaly(kind)))

    samples = scrape(server)

    assert value(samples, "loopscope_incident_info", kind=kind, layer="head") == 1
    assert labels_of(samples, "loopscope_anomaly_active", "kind") == {each.name for each in EVENT_KINDS}


def test_layers_of_one_table_are_told_whatever_is_ill(server, exporter):
    """A layer that is ill and has no gradient at present has no series: what is unknown is absent."""
    export(exporter, run_info(), step_report(gradients=gradient_table((1.0,), layers=("encoder",))))
    export(exporter, health_report(anomaly()))

    assert states(scrape(server)) == {"encoder": "healthy"}
