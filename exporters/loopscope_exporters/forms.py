"""Forms: the fields of an entry as its record has them, of the kinds that the record's annotations say."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from loopscope.records import maker

__all__ = ["Entry", "build", "real"]

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


def build(record: type[_T], entry: Entry, **values: Any) -> _T:
    """Return a record of an entry's fields and of `values`, which win, with texts that stand for numbers as numbers.

    Raises TypeError where a field is missing, or of another kind than the record says, and KeyError for another text.
    """
    kind: Any = record
    form = _form(kind, (*values,))
    try:
        found = form.take(entry)
    except KeyError:
        form = _form(kind, (*values,), tuple(name for name in form.names if name not in entry))
        found = form.take(entry)
    kinds = (*map(type, found),)
    odd = form.odd.get(kinds)
    if odd is None:
        odd = form.look(kinds)
    if odd:
        found = [*found]
        for place, make in odd:
            found[place] = make(found[place])
    made: _T = form.make(*found, *values.values())
    return made


def real(value: object) -> float:
    """Return a number, NaN where it is not known; raises KeyError or TypeError for anything else."""
    if type(value) in _NUMBERS:
        return value  # type: ignore[return-value]
    return _TEXTS[value]  # type: ignore[index]


def _reals(values: Mapping[str, Any]) -> Mapping[str, float]:
    if _NUMBERS.issuperset(map(type, values.values())):
        return values
    return {name: real(value) for name, value in values.items()}


class _Form:
    """How entries become records of one type, given the names of the fields that do not come from the entry."""

    def __init__(self, record: Any, replaced: tuple[str, ...], missing: tuple[str, ...]) -> None:
        self._record = record
        self._hints = {name: hint for name, hint in _hints(record).items() if name not in replaced + missing}
        self.names = tuple(self._hints)
        self.make = maker(record, self.names + replaced)
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
        if len(self.odd) >= _MAX_KEPT:
            self.odd.clear()
        self.odd[kinds] = odd
        return odd


@functools.lru_cache(maxsize=_MAX_KEPT)
def _form(record: Any, replaced: tuple[str, ...], missing: tuple[str, ...] = ()) -> _Form:
    return _Form(record, replaced, missing)


def _taking(names: tuple[str, ...]) -> Callable[[Entry], Sequence[Any]]:
    # Of a single name an itemgetter returns the value itself, and of none it cannot be made.
    return itemgetter(*names) if len(names) > 1 else lambda entry: [entry[name] for name in names]


@functools.cache
def _hints(record: Any) -> Mapping[str, Any]:
    hints = get_type_hints(record)
    return {field.name: hints[field.name] for field in fields(record) if field.init}


def _allowed(hint: Any) -> frozenset[type]:
    """Return what JSON may have for an annotation, nothing for one that is none of JSON's own."""
    if get_origin(hint) in {Union, types.UnionType}:
        choices = [_allowed(each) for each in get_args(hint)]
        return frozenset().union(*choices) if all(choices) else frozenset()
    return _KINDS.get(get_origin(hint) or hint, frozenset())
