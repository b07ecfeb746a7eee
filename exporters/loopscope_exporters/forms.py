"""Forms: the fields of an entry as its record has them, of the kinds that the record's annotations say."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, Generic, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from loopscope.records import maker, needed

__all__ = ["Entry", "Form", "real"]

Entry = Mapping[str, Any]
_T = TypeVar("_T")
_Odd: TypeAlias = tuple[int, Callable[[Any], Any]]
"""Place of a value, and what is to be done with it."""

_NOT_NUMBERS = {None: math.nan, "NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""What stands for numbers that JSON does not have, or that are not known."""
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
"""By what a field is annotated as: what its value may be as JSON is read."""


class Form(Generic[_T]):
    """How entries become records of one type.

    `given` are the fields that do not come as they are in the entry. The others are of the kinds that the record's
    annotations say, with texts that stand for numbers as numbers; those that an entry lacks have their defaults.
    """

    def __init__(self, record: type[_T], *given: str) -> None:
        self._record, self._given = record, given
        self._hints = {name: hint for name, hint in _hints(record).items() if name not in given}
        self._needed = frozenset(needed(record)) & self._hints.keys()
        self._variants: dict[tuple[str, ...], _Variant[_T]] = {}
        self._whole = self._variant(())

    def build(self, entry: Entry, *given: Any) -> _T:
        """Return the record of an entry and the values of the fields that are given, in their order.

        Raises TypeError where a field is missing, or of another kind than the record says, and KeyError for another
        text.
        """
        variant = self._whole
        try:
            found = variant.take(entry)
        except KeyError:
            variant = self._variant(tuple(name for name in self._hints if name not in entry))
            found = variant.take(entry)
        kinds = (*map(type, found),)
        odd = variant.odd.get(kinds)
        if odd is None:
            odd = variant.look(kinds)
        if odd:
            found = [*found]
            for place, make in odd:
                found[place] = make(found[place])
        return variant.make(*found, *given)

    def _variant(self, missing: tuple[str, ...]) -> _Variant[_T]:
        variant = self._variants.get(missing)
        if variant is None:
            if lacking := self._needed.intersection(missing):
                raise TypeError(f"a {self._record.__name__} needs {', '.join(sorted(lacking))}")
            hints = {name: hint for name, hint in self._hints.items() if name not in missing}
            variant = _Variant(self._record, hints, self._given)
            _keep(self._variants, missing, variant)
        return variant


def real(value: object) -> float:
    """Return a number, NaN where it is not known; raises KeyError or TypeError for anything else."""
    if type(value) in _NUMBERS:
        return value  # type: ignore[return-value]
    if isinstance(value, bool):
        raise TypeError("a flag is no number")
    return _NOT_NUMBERS[value]  # type: ignore[index]


class _Variant(Generic[_T]):
    """The form of entries that have the same fields of the record."""

    def __init__(self, record: type[_T], hints: Mapping[str, Any], given: tuple[str, ...]) -> None:
        self._record, self._hints = record, hints
        self.take = _taking((*hints,))
        self.make = maker(record, (*hints, *given))
        self.odd: dict[tuple[type, ...], Sequence[_Odd]] = {}
        """By the kinds of the values, which are the same for most lines of a log: those that need more."""

    def look(self, kinds: tuple[type, ...]) -> Sequence[_Odd]:
        """Check the kinds of the values, and return which of them need more; raises TypeError."""
        odd: list[_Odd] = []
        for place, ((name, hint), kind) in enumerate(zip(self._hints.items(), kinds, strict=True)):
            allowed = _allowed(hint)
            if allowed is not None and kind not in allowed:
                raise TypeError(f"{name} of a {self._record.__name__} cannot be of {kind.__name__}")
            if kind is str and allowed is not None and float in allowed:
                odd.append((place, real))
            elif kind is dict and get_origin(hint) is Mapping and (make := _OF_MAPPINGS.get(get_args(hint)[1])):
                odd.append((place, make))
        _keep(self.odd, kinds, odd)
        return odd


def _hints(record: Any) -> Mapping[str, Any]:
    hints = get_type_hints(record)
    return {field.name: hints[field.name] for field in fields(record) if field.init}


def _taking(names: tuple[str, ...]) -> Callable[[Entry], Sequence[Any]]:
    # Of a single name an itemgetter returns the value itself, and of none it cannot be made.
    return itemgetter(*names) if len(names) > 1 else lambda entry: [entry[name] for name in names]


@functools.cache
def _allowed(hint: Any) -> frozenset[type] | None:
    """Return what JSON may have for an annotation, None for one that is none of JSON's own."""
    if get_origin(hint) not in {Union, types.UnionType}:
        return _KINDS.get(get_origin(hint) or hint)
    found: frozenset[type] = frozenset()
    for each in map(_allowed, get_args(hint)):
        if each is None:
            return None
        found |= each
    return found


def _reals(values: Mapping[str, Any]) -> Mapping[str, float]:
    if _NUMBERS.issuperset(map(type, values.values())):
        return values
    return {name: real(value) for name, value in values.items()}


def _all_of(kind: type) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    def check(values: Mapping[str, Any]) -> Mapping[str, Any]:
        if not {kind}.issuperset(map(type, values.values())):
            raise TypeError(f"a mapping to {kind.__name__} has something else in it")
        return values

    return check


_OF_MAPPINGS = {float: _reals, int: _all_of(int), str: _all_of(str)}
"""By what a mapping leads to: what is to be done with one."""


def _keep(memory: dict[Any, Any], key: object, value: object) -> None:
    """Keep a value, of so many the latest."""
    while len(memory) >= _MAX_KEPT:
        memory.pop(next(iter(memory)), None)
    memory[key] = value
