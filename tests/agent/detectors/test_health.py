"""Laws of the health: which anomalies are open is what the detectors' incidents say, and layers are as bad as these."""

from __future__ import annotations

import pytest
from tests.builders import event, run_info, step_report
from tests.detecting import noise, reports_of

from loopscope.catalog import EVENT_KINDS, HEALTH_STATES
from loopscope.detectors import default_detectors
from loopscope.detectors.health import STATE_OF, Health
from loopscope.detectors.incidents import Incidents, Severity
from loopscope.guard import Guard
from loopscope.judging import Judge


class Source:
    """A detector of which only the incidents are looked at."""

    name = "source"

    def __init__(self) -> None:
        self.incidents = Incidents()

    def see(self, report):
        """Say nothing."""
        return ()

    def open(self, kind, layers=("body",), optimizer=None, severity=Severity.WARNING, step=3):
        """Open an incident."""
        incident = self.incidents.new(kind, optimizer, 1)
        incident.see(severity, step, layers)
        return incident


def look(health: Health, source: Source) -> Health:
    """Return the health after it has taken in what is open."""
    health.take({0: source.incidents.anomalies()})
    return health


def states(health: Health, optimizer: str | None = None) -> dict[str, tuple[str, str]]:
    """Return state and rule by layer."""
    return {layer: (state.state, state.rule) for layer, state in health.layers.get(optimizer, {}).items()}


def test_what_opens_and_closes_is_seen_once():
    """Taking in what is open says whether anything has changed since the last time."""
    source = Source()
    health = Health()
    assert not health.take({0: source.incidents.anomalies()})
    incident = source.open("exploding_gradient")

    assert [health.take({0: source.incidents.anomalies()}) for _ in range(2)] == [True, False]
    assert [(each.kind, each.severity, each.step, each.layers) for each in health.anomalies] == [
        ("exploding_gradient", "warning", 3, ("body",))
    ]
    incident.see(Severity.CRITICAL, 9)
    assert health.take({0: source.incidents.anomalies()})
    assert [(each.severity, each.step) for each in health.anomalies] == [("critical", 3)]
    incident.close()
    assert health.take({0: source.incidents.anomalies()})
    assert (health.anomalies, health.layers) == ((), {})


@pytest.mark.parametrize(("kind", "state"), STATE_OF.items())
def test_a_layer_is_in_the_state_of_its_anomaly(kind, state):
    """Each kind that tells of a layer's gradient has one of the catalog's states."""
    source = Source()
    source.open(kind)
    health = look(Health(), source)

    assert states(health) == {"body": (state, kind)}
    assert state in HEALTH_STATES
    assert kind in {each.name for each in EVENT_KINDS}


def test_the_worst_state_wins():
    """A layer with several anomalies is in the worst of their states; others keep theirs."""
    source = Source()
    source.open("gradient_spike", ("stem", "body", "head"))
    source.open("nonfinite_gradient", ("body",))
    source.open("vanishing_gradient", ("stem", "body"))
    health = look(Health(), source)

    assert states(health) == {
        "stem": ("vanishing", "vanishing_gradient"),
        "body": ("nonfinite", "nonfinite_gradient"),
        "head": ("unstable", "gradient_spike"),
    }


def test_info_and_other_kinds_make_no_layer_ill():
    """What is there for information, and what says nothing of a gradient, leaves the layer healthy."""
    source = Source()
    source.open("frozen_layer")
    source.open("nonfinite_gradient", severity=Severity.INFO)
    health = look(Health(), source)

    assert states(health) == {}
    assert len(health.anomalies) == 2


def test_optimizers_have_layers_of_their_own():
    """A layer of the same name under two optimizers is two layers."""
    source = Source()
    source.open("dead_layer", optimizer="critic")
    source.open("gradient_spike", optimizer="generator")
    health = look(Health(), source)

    assert states(health, "critic") == {"body": ("dead", "dead_layer")}
    assert states(health, "generator") == {"body": ("unstable", "gradient_spike")}


@pytest.mark.parametrize("incidents", [None, [], 3, {"a": 1}])
def test_detectors_of_others_need_no_incidents(incidents):
    """A detector without incidents, or with something else under that name, is left out."""

    class Theirs:
        name = "theirs"

        def see(self, report):
            return ()

    theirs, source, guard = Theirs(), Source(), Guard(strict=True)
    if incidents is not None:
        theirs.incidents = incidents
    judge = Judge(run_info(), [theirs, source], guard)
    source.open("dead_layer")

    verdicts = [judge.judge(step_report()) for _ in range(2)]
    assert [list(verdict.events) for verdict in verdicts] == [[], []]
    assert [None if each.health is None else len(each.health.anomalies) for each in verdicts] == [1, None]


def test_a_healthy_run_has_no_report():
    """Where nothing was ever wrong there is nothing to say."""
    judge = Judge(run_info(), default_detectors(), Guard(strict=True))
    for report in reports_of(noise(300)):
        verdict = judge.judge(report)
        assert (list(verdict.events), verdict.health) == ([], None)


def test_health_follows_a_run():
    """An explosion and its end are two reports; the layers are ill in between."""
    norms = noise(300, sigma=0.1)
    norms[100:110, 1] *= 1e3
    judge = Judge(run_info(), default_detectors(), Guard(strict=True))
    found = [verdict.health for verdict in map(judge.judge, reports_of(norms)) if verdict.health is not None]

    assert [each.kind for each in found[0].anomalies] == ["exploding_gradient"]
    assert 100 <= found[0].step < 105
    assert found[0].layers[None]["body"].state == "exploding"
    assert (found[-1].anomalies, found[-1].layers) == ((), {})
    assert 110 < found[-1].step < 150


def test_a_corruption_stays_open_and_becomes_no_better():
    """What is corrupted on a watched step is on every one; later and milder news change nothing."""
    health = Health()

    assert health.note([event("inplace_corruption", "warning", 1, layer=None)])
    assert health.note([event("inplace_corruption", "critical", 2, layer=None)])
    assert not health.note([event("inplace_corruption", "warning", 3, layer=None), event("device_sync", "warning", 3)])

    assert [(each.kind, each.severity, each.step) for each in health.anomalies] == [
        ("inplace_corruption", "critical", 2)
    ]
    assert health.layers == {}
