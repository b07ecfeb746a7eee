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


def light(record: type[_T]) -> type[_T]:
    """Return a frozen dataclass with slots and keywords only, its constructor made cheap."""
    own: Any = record
    parameters = ["self", "*", *(_parameter(each) for each in fields(own) if each.init)]
    lines = ["object_setattr(self, '__class__', type_draft)", *_lines(record, {each.name for each in fields(own)})]
    own.__init__ = functools.wraps(own.__init__)(_compiled("__init__", parameters, lines, record))
    return record


def maker(record: type[_T], names: Sequence[str]) -> Callable[..., _T]:
    """Return a function of the values of these fields, one for each name and by place; the others get their defaults.

    Raises TypeError where one of the others has none.
    """
    if missing := [name for name in needed(record) if name not in names]:
        raise TypeError(f"a {record.__name__} needs {', '.join(missing)}")
    lines = ["self = object_new(type_draft)", *_lines(record, names), "return self"]
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
    """Return what the code of `_parameter` and `_lines` stands on."""
    types = {"type_record": record, "type_draft": _draft(record), "object_new": object.__new__}
    more = {"object_setattr": object.__setattr__, "MISSING": MISSING}
    defaults = {f"default_{each.name}": each.default for each in fields(record)}
    makers = {f"make_{each.name}": each.default_factory for each in fields(record)}
    return {**types, **more, **defaults, **makers}


def _has_default(each: Field[Any]) -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


def _parameter(each: Field[Any]) -> str:
    """Return a parameter; the default of what is made anew each time is MISSING."""
    return f"{each.name} = default_{each.name}" if _has_default(each) else each.name


def _lines(record: Any, given: Collection[str]) -> list[str]:
    """Return the lines that set all fields, those that are given from variables of their names."""
    lines = []
    for each in fields(record):
        value = each.name if each.name in given else f"default_{each.name}"
        if each.default_factory is not MISSING:
            value = f"make_{each.name}() if {value} is MISSING else {value}"
        if each.init:
            lines.append(f"self.{each.name} = {value}")
    return lines + ["self.__post_init__()"] * hasattr(record, "__post_init__") + ["self.__class__ = type_record"]


def _compiled(name: str, parameters: Sequence[str], lines: Sequence[str], record: Any) -> Any:
    source = f"def {name}({', '.join(parameters)}):\n    " + "\n    ".join(lines)
    namespace = _namespace(record)
    exec(source, namespace)  # noqa: S102 # of the names of fields only, as dataclasses does
    return namespace[name]
