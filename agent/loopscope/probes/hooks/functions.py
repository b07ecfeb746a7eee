"""Functions of hooks: whose they are, where they are written, and which containers they can fill."""

from __future__ import annotations

import functools
import inspect
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

from ...sites import Origin, origin_of, site_of

__all__ = ["Place", "containers_of", "place_of"]

_CONTAINERS = (list, dict, deque)
_MAX_CONTAINERS = 32
_MAX_VALUES = 64
_MAX_UNWRAPPED = 8
_OURS = str(Path(__file__).resolve().parents[2]) + os.sep


class Place(NamedTuple):
    """Where a hook's function is written."""

    site: str
    function: str
    origin: Origin


def place_of(hook: Any) -> Place:
    """Return where the function of a hook is written; what has no code is PyTorch's own."""
    function = _unwrapped(hook)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return Place("<built-in>:0", type(hook).__name__, Origin.LIBRARY)
    return _place(code.co_filename, code.co_firstlineno, code.co_qualname)


@functools.lru_cache(maxsize=1_000)
def _place(filename: str, line: int, name: str) -> Place:
    origin = Origin.OURS if filename.startswith(_OURS) else origin_of(filename)
    return Place(site_of(filename, line), name, origin)


def containers_of(hook: Any) -> Iterator[tuple[str, Any]]:
    """Yield lists, dictionaries and deques that the hook's function can reach, by name, two levels deep.

    They are those in its closure, its defaults, the arguments bound to it, the attributes of its object, and the
    globals that it names. Nothing is called, and no attribute is computed.
    """
    found = 0
    for name, value in _reached(hook):
        inner = value.items() if isinstance(value, dict) else ()
        reached = [(name, value), *((f"{name}[{key!r:.40}]", each) for key, each in list(inner)[:_MAX_VALUES])]
        for label, each in reached:
            if isinstance(each, _CONTAINERS):
                yield label, each
                found += 1
        if found >= _MAX_CONTAINERS:
            return


def _reached(hook: Any) -> Iterator[tuple[str, Any]]:
    for _ in range(_MAX_UNWRAPPED):
        if isinstance(hook, functools.partial):
            yield from ((f"argument {i}", each) for i, each in enumerate(hook.args))
            yield from hook.keywords.items()
            hook = hook.func
        elif isinstance(hook, MethodType):
            yield from _attributes(hook.__self__)
            hook = hook.__func__
        elif isinstance(hook, FunctionType):
            yield from _variables(hook)
            if not hasattr(hook, "__wrapped__"):
                return
            hook = hook.__wrapped__
        else:
            yield from _attributes(hook)
            hook = inspect.getattr_static(type(hook), "__call__", None)
            if not isinstance(hook, FunctionType):
                return


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    values = getattr(owner, "__dict__", None)
    if isinstance(values, dict):
        yield from list(values.items())[:_MAX_VALUES]


def _variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        yield name, value
        if not isinstance(value, _CONTAINERS) and name == "self":
            yield from _attributes(value)
    names = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(names[len(names) - len(defaults) :], defaults, strict=False)
    yield from (function.__kwdefaults__ or {}).items()
    for name in code.co_names:
        if isinstance(function.__globals__.get(name), _CONTAINERS):
            yield name, function.__globals__[name]


def _unwrapped(hook: Any) -> Any:
    for _ in range(_MAX_UNWRAPPED):
        if isinstance(hook, functools.partial):
            hook = hook.func
        elif isinstance(hook, MethodType):
            hook = hook.__func__
        elif isinstance(hook, FunctionType):
            if not hasattr(hook, "__wrapped__"):
                return hook
            hook = hook.__wrapped__
        else:
            return inspect.getattr_static(type(hook), "__call__", None)
    return hook
