"""What a user is told when a setting or an argument cannot work: the value, what is allowed, the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["SettingError", "UnknownSettingError"]


class SettingError(ValueError):
    """A setting or an argument of `attach` has a value that cannot work; raised at attach, never later."""

    def __init__(self, name: str, value: object, *, allowed: str, remedy: str) -> None:
        super().__init__(f"loopscope: {name}={value!r} cannot be used. Allowed: {allowed}. {remedy}")
        self.name = name
        self.value = value


class UnknownSettingError(TypeError):
    """A setting that does not exist; the message names the nearest one."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known settings: {', '.join(names)}."
        super().__init__(f"loopscope: there is no setting {name!r}. {hint}")
        self.name = name
