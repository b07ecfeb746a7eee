"""Laws of records that are cheap to make: they are frozen dataclasses in every other respect."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any

import numpy as np
import pytest
from tests.builders import gradient_table, step_report

from loopscope.records import GradientTable, StepReport, maker
from loopscope.records.light import light


def of_every_kind() -> Any:
    """Return a record with every kind of field, a class of its own each time."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Record:
        name: str
        count: int = 3
        labels: Mapping[str, int] = field(default_factory=dict)
        missing: str | None = None
        total: int = field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.count + len(self.labels))

    return Record


Usual, Light = of_every_kind(), light(of_every_kind())


@pytest.mark.parametrize("values", [{"name": "a"}, {"name": "a", "count": 0, "labels": {"b": 1}}, {"name": None}])
def test_fields_are_those_of_a_usual_dataclass(values):
    """Values, defaults and what is worked out of them."""
    made = Light(**values)

    assert dataclasses.asdict(made) == dataclasses.asdict(Usual(**values))
    assert type(made) is Light
    assert made == Light(**values)
    assert repr(made) == repr(Usual(**values))


def test_what_is_made_anew_is_not_shared():
    """A default that is a mapping belongs to one record."""
    assert Light(name="a").labels is not Light(name="a").labels


@pytest.mark.parametrize(
    "record", [Light(name="a"), step_report(), gradient_table()], ids=lambda each: type(each).__name__
)
def test_records_are_frozen(record):
    """No field can be set or deleted, and there are no others."""
    name = dataclasses.fields(record)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(record, name, "b")
    with pytest.raises(FrozenInstanceError):
        delattr(record, name)
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        record.unheard_of = 1
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize("values", [{}, {"name": "a", "unheard_of": 1}])
def test_wrong_arguments_are_refused_in_the_same_words(values):
    """What is missing, and what does not exist."""
    with pytest.raises(TypeError) as usual:
        Usual(**values)
    with pytest.raises(TypeError) as ours:
        Light(**values)
    assert str(ours.value) == str(usual.value)
    with pytest.raises(TypeError):
        Light("a")


def test_a_constructor_that_fails_leaves_nothing_behind():
    """Those made after it are frozen as those before."""
    with pytest.raises(AttributeError):
        GradientTable(**dict.fromkeys(inspect.signature(GradientTable).parameters) | {"num_nonfinite": _Failing()})
    assert type(gradient_table()) is GradientTable


class _Failing:
    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise AttributeError


def test_records_are_copied_replaced_and_pickled():
    """As any dataclass."""
    report = step_report(3, gradients=None)
    for same in (copy.copy(report), copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
        assert same == report
        assert type(same) is StepReport
    assert dataclasses.replace(report, step=4) == step_report(
        4, gradients=None, time_unix_seconds=report.time_unix_seconds
    )
    assert inspect.signature(StepReport).parameters["loss"].kind is inspect.Parameter.KEYWORD_ONLY


class Sub(Light):
    """A subclass with a dictionary."""


class Slotted(Light):
    """A subclass with the same layout."""

    __slots__ = ()


class More(Light):
    """A subclass with a constructor and a slot of its own."""

    __slots__ = ("more",)

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        object.__setattr__(self, "more", 7)


@pytest.mark.parametrize("kind", [Sub, Slotted, More])
def test_subclasses_are_what_they_are(kind):
    """Their fields are set, and they are frozen."""
    made = kind(name="a", labels={"b": 1})

    assert type(made) is kind
    assert (made.name, made.count, made.labels, made.total) == ("a", 3, {"b": 1}, 4)
    assert getattr(made, "more", 7) == 7
    with pytest.raises(FrozenInstanceError):
        made.name = "b"


def test_names_of_fields_are_free():
    """None of them is a name that the constructor uses; fields that no caller gives have their defaults."""

    @light
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd:
        record: int
        draft: int
        MISSING: int = 3
        default_record: int = 4
        make_labels: int = 5
        labels: list[int] = field(default_factory=lambda: [6])
        fixed: int = field(init=False, default=7)
        made: list[int] = field(init=False, default_factory=list)

    expected = (1, 2, 3, 4, 5, [6], 7, [])
    assert dataclasses.astuple(Odd(record=1, draft=2)) == expected
    assert dataclasses.astuple(maker(Odd, ("draft", "record"))(2, 1)) == expected


@pytest.mark.parametrize("record", [Usual, Light])
def test_a_maker_takes_values_in_its_own_order(record):
    """The others have their defaults."""
    make = maker(record, ("labels", "name"))

    assert make({"b": 1}, "a") == record(name="a", labels={"b": 1})
    assert type(make({}, "a")) is record
    assert maker(record, ("name",))("a").labels is not maker(record, ("name",))("a").labels


def test_a_maker_needs_what_has_no_default():
    """It says which, and what is no field."""
    with pytest.raises(TypeError, match="a Record needs name"):
        maker(Light, ("count",))
    with pytest.raises(TypeError, match="a Record has no names"):
        maker(Light, ("name", "names"))
