"""Light: frozen records that cost a third to make; each step makes some, and may be as short as 50 us.

A frozen dataclass sets each of its fields by `object.__setattr__`, a call each. Here an instance is of a subclass that
is not frozen, with the same layout, until all of its fields are set.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

__all__ = ["light", "maker", "needed"]

_T = TypeVar("_T")
_NAME = "light__"
"""What the names in the code begin with, so that none is a field's."""
_SELF = f"{_NAME}self"


def light(record: type[_T]) -> type[_T]:
    """Return a frozen dataclass with slots and keywords only, its constructor made cheap, but not that of subclasses.

    Fields may have defaults, factories, and `init=False` where `__post_init__` sets them; there is no `InitVar`.
    """
    own: Any = record
    known = [each.name for each in fields(own) if each.init]
    parameters = [f"{_SELF}, *", *(_parameter(each) for each in fields(own) if each.init)]
    lines = [
        f"if type({_SELF}) is {_NAME}record:",
        f"    {_NAME}setattr({_SELF}, '__class__', {_NAME}draft)",
        *_indented(_thawed(record, known)),
        "else:",
        *_indented(_lines(record, known, f"{_NAME}setattr({_SELF}, '{{}}', {{}})")),
    ]
    own.__init__ = functools.wraps(own.__init__)(_compiled("__init__", parameters, lines, record))
    return record


def maker(record: type[_T], names: Sequence[str]) -> Callable[..., _T]:
    """Return a function of the values of these fields, one for each name and by place; the others get their defaults.

    Raises TypeError for a name that is no field, and where one of the others has no default.
    """
    own: Any = record
    if missing := [name for name in needed(record) if name not in names]:
        raise TypeError(f"a {record.__name__} needs {', '.join(missing)}")
    if others := set(names) - {each.name for each in fields(own) if each.init}:
        raise TypeError(f"a {record.__name__} has no {', '.join(sorted(others))}")
    lines = [f"{_SELF} = {_NAME}new({_NAME}draft)", *_thawed(record, names), f"return {_SELF}"]
    made: Callable[..., _T] = _compiled("make", names, lines, record)
    return made


def needed(record: type) -> tuple[str, ...]:
    """Return the names of the fields that have no default."""
    own: Any = record
    return tuple(each.name for each in fields(own) if each.init and not _has_default(each))


@functools.cache
def _draft(record: type) -> type:
    """Return the subclass that is not frozen."""
    # Both or none: they share one slot of the type, which is the one of `object` only where both are.
    thawed = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(record.__name__, (record,), {"__slots__": (), **thawed})


def _namespace(record: Any) -> dict[str, Any]:
    """Return what the code stands on, under names that no field has."""
    types = {"record": record, "draft": _draft(record), "new": object.__new__, "setattr": object.__setattr__}
    defaults = {f"default_{each.name}": each.default for each in fields(record)}
    makers = {f"make_{each.name}": each.default_factory for each in fields(record)}
    return {_NAME + name: value for name, value in {**types, **defaults, **makers, "missing": MISSING}.items()}


def _has_default(each: Field[Any]) -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


def _parameter(each: Field[Any]) -> str:
    """Return a parameter; the default of what is made anew each time is MISSING."""
    return f"{each.name} = {_NAME}default_{each.name}" if _has_default(each) else each.name


def _thawed(record: Any, given: Collection[str]) -> list[str]:
    """Return the lines that fill an instance that is not frozen, and freeze it."""
    return [*_lines(record, given, f"{_SELF}.{{}} = {{}}"), f"{_SELF}.__class__ = {_NAME}record"]


def _lines(record: Any, given: Collection[str], template: str) -> list[str]:
    """Return the lines that set all fields, those that are given from variables of their names."""
    lines = []
    for each in fields(record):
        value = each.name if each.name in given else f"{_NAME}default_{each.name}"
        if each.default_factory is not MISSING:
            value = f"{_NAME}make_{each.name}() if {value} is {_NAME}missing else {value}"
        if each.init or _has_default(each):
            lines.append(template.format(each.name, value))
    return lines + [f"{_SELF}.__post_init__()"] * hasattr(record, "__post_init__")


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _compiled(name: str, parameters: Sequence[str], lines: Sequence[str], record: Any) -> Any:
    source = f"def {name}({', '.join(parameters)}):\n" + "\n".join(_indented(lines))
    namespace = _namespace(record)
    exec(source, namespace)  # noqa: S102 # of the names of fields only, as dataclasses does
    return namespace[name]
