"""Laws of first causes: what belongs together is one incident, and the earliest of it leads."""

from __future__ import annotations

import pytest
from tests.builders import anomaly, event, step_report

from loopscope.catalog import EVENT_KINDS
from loopscope.detectors import causes
from loopscope.detectors.causes import QUIET_STEPS, Causes
from loopscope.records import Event

RANKS = {"stem": 0, "body": 1, "head": 2}


class Run:
    """A run of steps, with the events that are told on them."""

    def __init__(self) -> None:
        self.causes = Causes(RANKS)
        self.step = -1

    def tell(
        self, step: int, *events: Event, optimizer: str | None = None, opened: dict[str, int] | None = None
    ) -> list[Event]:
        """Go on to a step, and return its events as they are grouped; `opened` has the open kinds since their step."""
        while self.step < step:
            self.step += 1
            self.causes.see(step_report(self.step, optimizer=optimizer))
        return self.causes.group(events, [anomaly(kind, step=since) for kind, since in (opened or {}).items()])


def warned(kind: str, step: int, **changes) -> Event:
    """Return an event of severity warning."""
    return event(kind, "warning", step, **changes)


def heads(events: list[Event]) -> list[bool]:
    """Return which are first causes."""
    return [each.first_cause for each in events]


def test_the_first_leads_and_the_others_refer_to_it():
    """The first event has an incident and no cause; later ones have the same incident, and its kind, step and layer."""
    run = Run()
    (first,) = run.tell(5, warned("exploding_gradient", 5, layer="body"))
    (second,) = run.tell(9, event("nonfinite_loss", "critical", 9, layer=None))

    assert (first.first_cause, dict(first.attributes)) == (True, {"incident": 1})
    assert second.first_cause is False
    assert dict(second.attributes) == {
        "incident": 1, "cause": "exploding_gradient", "cause_step": 5, "cause_layer": "body",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("events", "order"),
    [
        ([event("nonfinite_gradient"), event("nonfinite_loss")], ["nonfinite_loss", "nonfinite_gradient"]),
        ([warned("loss_spike", 0), warned("gradient_spike", 0)], ["gradient_spike", "loss_spike"]),
        (
            [warned("update_ratio", 0), event("nonfinite_gradient"), event("inplace_corruption")],
            ["inplace_corruption", "nonfinite_gradient", "update_ratio"],
        ),
    ],
)
def test_on_one_step_a_loss_comes_before_its_gradient(events, order):
    """Of anomalies that begin on the same step the one that acts on the others leads."""
    told = Run().tell(0, *events)

    assert [each.kind for each in told] == order
    assert heads(told) == [True] + [False] * (len(order) - 1)


def test_of_one_kind_the_first_layer_leads():
    """Within a step and kind the order is the model's; a layer that is not known comes last."""
    told = Run().tell(0, *(event("dead_layer", layer=layer) for layer in (None, "head", "stem", "body")))

    assert [each.layer for each in told] == ["stem", "body", "head", None]


def test_what_began_earlier_leads_though_it_is_told_on_the_same_step():
    """A detector that says since when has an earlier event than one that began just now."""
    told = Run().tell(
        40, event("nonfinite_loss", step=40), warned("exploding_gradient", 40, attributes={"since_step": 36})
    )

    assert [each.kind for each in told] == ["exploding_gradient", "nonfinite_loss"]


@pytest.mark.parametrize(("quiet", "is_first"), [(QUIET_STEPS, False), (QUIET_STEPS + 1, True)])
@pytest.mark.parametrize("offset", [0, 12_000])
def test_an_incident_is_over_after_thirty_quiet_steps(quiet, is_first, offset):
    """What comes 31 steps after the latest event is an incident of its own, wherever the count of steps began."""
    run = Run()
    run.step = offset - 1
    run.tell(offset + 3, warned("gradient_spike", offset + 3))
    run.tell(offset + 10, warned("loss_spike", offset + 10))

    assert heads(run.tell(offset + 10 + quiet, warned("gradient_spike", offset + 10 + quiet))) == [is_first]


@pytest.mark.parametrize(("kind", "is_first"), [("loss_diverging", False), ("loss_spike", True)])
def test_a_loss_that_diverges_is_told_late(kind, is_first):
    """To see that a loss stays up takes up to a hundred steps: an explosion before it is its cause."""
    run = Run()
    run.tell(100, warned("exploding_gradient", 100))

    assert heads(run.tell(180, warned(kind, 180))) == [is_first]


@pytest.mark.parametrize(("kind", "is_first"), [("nonfinite_loss", False), ("gradient_spike", True)])
def test_an_incident_that_lasts_is_not_over(kind, is_first):
    """While a loss or gradient is not finite, explodes or diverges, what follows belongs to it, however late."""
    run = Run()
    run.tell(0, warned(kind, 0), opened={kind: 0})

    assert heads(run.tell(500, warned("dead_layer", 500), opened={kind: 0})) == [is_first]


@pytest.mark.parametrize("kind", ["exploding_gradient", "nonfinite_loss"])
def test_what_begins_long_after_an_incident_was_over_is_no_part_of_it(kind):
    """An anomaly that opens anew keeps no earlier incident open: it is the first cause of one of its own."""
    run = Run()
    run.tell(175, warned("exploding_gradient", 175), opened={"exploding_gradient": 175})

    told = run.tell(900, warned(kind, 900), opened={kind: 900})

    assert heads(told) == [True]
    assert told[0].attributes["incident"] == 2


def test_nothing_is_caused_by_what_comes_after_it():
    """A layer that was dead before the explosion began is no result of it, although it is told later."""
    run = Run()
    run.tell(20, warned("exploding_gradient", 20))

    told = run.tell(32, warned("dead_layer", 32, attributes={"since_step": 2}))

    assert heads(told) == [True]
    assert told[0].attributes["incident"] == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("nonfinite_loss", "input_bound"),
        ("input_bound", "device_sync_storm"),
        ("recompilation", "nonfinite_gradient"),
        ("dead_layer", "exploding_gradient"),
        ("memory_creep", "recompile_storm"),
    ],
)
def test_families_do_not_mix(first, second):
    """What has nothing to do with one another is two incidents, though it is on the same step."""
    run = Run()
    run.tell(0, warned(first, 0))

    assert heads(run.tell(1, warned(second, 1))) == [True]


def test_info_and_unknown_kinds_are_left_as_they_are():
    """Neither is grouped; what others call their events is none of our incidents."""
    events = [event("loss_plateau", "info"), event("step_time_outlier", "info"), event("home_made", "critical")]

    told = Run().tell(0, *events)

    assert sorted(told, key=lambda each: each.kind) == sorted(events, key=lambda each: each.kind)


def test_optimizers_of_different_pace_share_an_incident():
    """A critic at step 500 and the generator at its step 100 are at the same moment: one is the other's cause."""
    grouped = Causes(RANKS)
    for number in range(500):
        grouped.see(step_report(number, optimizer="critic"))
        if number % 5 == 4:
            grouped.see(step_report(number // 5, optimizer="generator"))
    (first,) = grouped.group([event("nonfinite_loss", step=499, optimizer="critic")], [])
    (second,) = grouped.group([event("nonfinite_loss", step=99, optimizer="generator")], [])
    for number in range(500, 520):
        grouped.see(step_report(number, optimizer="critic"))
    (third,) = grouped.group([event("nonfinite_gradient", step=519, optimizer="critic")], [])

    assert [first.first_cause, second.first_cause, third.first_cause] == [True, False, False]
    assert second.attributes["cause_step"] == 499


def test_an_optimizer_that_follows_another_begins_anew():
    """After 1,000 steps of one optimizer, the tenth step of the next is not part of what was at its step 10."""
    grouped = Causes(RANKS)
    grouped.see(step_report(10, optimizer="first", num_steps=11))
    grouped.group([event("gradient_spike", step=10, optimizer="first")], [])
    grouped.see(step_report(1_000, optimizer="first", num_steps=990))
    grouped.see(step_report(10, optimizer="second", num_steps=11))

    assert heads(grouped.group([event("gradient_spike", step=10, optimizer="second")], [])) == [True]


def test_every_grouped_kind_is_in_the_catalog_once():
    """No kind is in two families, and none is misspelt; those of signals to come are known by name."""
    kinds = [kind for family in causes._FAMILIES for kind in family]
    to_come = {"saturated_units", "dead_units", "hook_leak", "hook_never_fires"}

    assert len(kinds) == len(set(kinds))
    assert set(kinds) - to_come <= {kind.name for kind in EVENT_KINDS}
