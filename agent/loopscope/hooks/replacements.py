"""Replacements: torch functions with a wrapper of ours in their place, one for all agents of the process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .patches import patching, skip_code

__all__ = ["Replacement", "num_replacements", "replacement_of"]

_replacements: dict[tuple[int, str, int], Replacement] = {}


def num_replacements() -> int:
    """Number of torch functions that have a replacement at present."""
    return len(_replacements)


def replacement_of(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Replacement:
    """Return the replacement of `owner.name` by `wrap`, a new one where there is none to join."""
    found = _replacements.get((id(owner), name, id(wrap)))
    return found if found is not None and found.is_usable else Replacement(owner, name, wrap)


class Replacement:
    """One function in the place of another, for as long as anyone wants it."""

    def __init__(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._owner, self._name, self._wrap = owner, name, wrap
        self._is_own = name in vars(owner)
        self._original = inspect.getattr_static(owner, name)
        self._wrapper = wrap(getattr(owner, name))
        self._num_users = 0
        skip_code(self._wrapper)

    @property
    def is_usable(self) -> bool:
        """Whether it is wanted, or on top; below a foreign patch that outlived our last agent it is neither."""
        return bool(self._num_users) or self._is_on_top()

    def retain(self) -> None:
        """Put the wrapper in place, if it is not there yet."""
        with patching():
            if not self._num_users:
                _replacements[id(self._owner), self._name, id(self._wrap)] = self
                if not self._is_on_top():
                    setattr(self._owner, self._name, self._wrapper)
            self._num_users += 1

    def release(self) -> None:
        """Put the original back once nobody wants the wrapper; under a foreign patch on top of it, it stays."""
        with patching():
            self._num_users -= 1
            if self._num_users or not self._is_on_top():
                return
            if self._is_own:
                setattr(self._owner, self._name, self._original)
            else:
                delattr(self._owner, self._name)
            _replacements.pop((id(self._owner), self._name, id(self._wrap)), None)

    def _is_on_top(self) -> bool:
        return inspect.getattr_static(self._owner, self._name) is self._wrapper
