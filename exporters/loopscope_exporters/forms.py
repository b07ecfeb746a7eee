"""Forms: the fields of an entry as its record has them, of the kinds that the record's annotations say."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, Generic, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from loopscope.records import maker

__all__ = ["Entry", "Form", "real"]

Entry = Mapping[str, Any]
_T = TypeVar("_T")
_Odd: TypeAlias = tuple[int, Callable[[Any], Any]]
"""Place of a value, and what is to be done with it."""

_TEXTS = {None: math.nan, True: 1.0, False: 0.0, "NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""What stands for numbers: JSON does not have all of them."""
_MAX_KEPT = 256
_NUMBERS = frozenset({int, float})
_KINDS: Mapping[Any, frozenset[type]] = {
    str: frozenset({str}),
    bool: frozenset({bool}),
    int: frozenset({int}),
    float: frozenset({float, int, str}),
    types.NoneType: frozenset({types.NoneType}),
    Mapping: frozenset({dict}),
}
"""Kinds of annotation, and of what JSON is read as."""


class Form(Generic[_T]):
    """How entries become records of one type.

    `given` are the fields that do not come as they are in the entry. The others are of the kinds that the record's
    annotations say, with texts that stand for numbers as numbers; those that an entry lacks have their defaults.
    """

    def __init__(self, record: type[_T], *given: str) -> None:
        self._record, self._given = record, given
        self._lacking: dict[tuple[str, ...], _Lacking[_T]] = {}
        self._whole = _Lacking(record, given, ())

    def build(self, entry: Entry, *given: Any) -> _T:
        """Return the record of an entry and the values of the fields that are given, in their order.

        Raises TypeError where a field is missing, or of another kind than the record says, and KeyError for another
        text.
        """
        form = self._whole
        try:
            found = form.take(entry)
        except KeyError:
            form = self._without(tuple(name for name in form.names if name not in entry))
            found = form.take(entry)
        kinds = (*map(type, found),)
        odd = form.odd.get(kinds)
        if odd is None:
            odd = form.look(kinds)
        if odd:
            found = [*found]
            for place, make in odd:
                found[place] = make(found[place])
        return form.make(*found, *given)

    def _without(self, names: tuple[str, ...]) -> _Lacking[_T]:
        if names not in self._lacking:
            _make_room(self._lacking)
            self._lacking[names] = _Lacking(self._record, self._given, names)
        return self._lacking[names]


def real(value: object) -> float:
    """Return a number, NaN where it is not known; raises KeyError or TypeError for anything else."""
    if type(value) in _NUMBERS:
        return value  # type: ignore[return-value]
    return _TEXTS[value]  # type: ignore[index]


def _reals(values: Mapping[str, Any]) -> Mapping[str, float]:
    if _NUMBERS.issuperset(map(type, values.values())):
        return values
    return {name: real(value) for name, value in values.items()}


class _Lacking(Generic[_T]):
    """The form of entries that lack the same fields, or none."""

    def __init__(self, record: type[_T], given: tuple[str, ...], missing: tuple[str, ...]) -> None:
        self._record = record
        self._hints = {name: hint for name, hint in _hints(record).items() if name not in given + missing}
        self.names = tuple(self._hints)
        self.make = maker(record, self.names + given)
        self.take = _taking(self.names)
        self.odd: dict[tuple[type, ...], Sequence[_Odd]] = {}
        """By the kinds of the values, which are the same for most lines of a log: those that need more."""

    def look(self, kinds: tuple[type, ...]) -> Sequence[_Odd]:
        """Check the kinds of the values, and return which of them need more; raises TypeError."""
        odd: list[_Odd] = []
        for place, ((name, hint), kind) in enumerate(zip(self._hints.items(), kinds, strict=True)):
            allowed = _allowed(hint)
            if allowed and kind not in allowed:
                raise TypeError(f"{name} of a {self._record.__name__} cannot be of {kind.__name__}")
            if kind is str and float in allowed:
                odd.append((place, real))
            elif kind is dict and get_args(hint)[1:] in {(float,), (int,)}:
                odd.append((place, _reals))
        _make_room(self.odd)
        self.odd[kinds] = odd
        return odd


def _make_room(memory: dict[Any, Any]) -> None:
    if len(memory) >= _MAX_KEPT:
        memory.clear()


def _taking(names: tuple[str, ...]) -> Callable[[Entry], Sequence[Any]]:
    # Of a single name an itemgetter returns the value itself, and of none it cannot be made.
    return itemgetter(*names) if len(names) > 1 else lambda entry: [entry[name] for name in names]


def _hints(record: Any) -> Mapping[str, Any]:
    hints = get_type_hints(record)
    return {field.name: hints[field.name] for field in fields(record) if field.init}


def _allowed(hint: Any) -> frozenset[type]:
    """Return what JSON may have for an annotation, nothing for one that is none of JSON's own."""
    if get_origin(hint) in {Union, types.UnionType}:
        choices = [_allowed(each) for each in get_args(hint)]
        return frozenset().union(*choices) if all(choices) else frozenset()
    return _KINDS.get(get_origin(hint) or hint, frozenset())
