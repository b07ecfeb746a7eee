"""Python warnings as a source: PyTorch says some things by no other way."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

from ...guard import Site
from ...hooks import HookSet

__all__ = ["Handler", "listen"]

Handler = Callable[[str, FrameType], bool]
"""Gets the text of a warning and the frame that raised it; True keeps it from the user, for whom it was not meant."""

_handlers: list[tuple[Handler, Site]] = []


def listen(hooks: HookSet, site: Site, handler: Handler) -> None:
    """Have `handler` see the warnings that Python's filters let through, before they are shown, until `remove`."""
    entry = (handler, site)
    hooks.replace(warnings, "showwarning", _wrap)
    _handlers.append(entry)
    hooks.on_remove(lambda: _handlers.remove(entry))


def _wrap(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def showwarning(message: Warning | str, *args: Any, **kwargs: Any) -> Any:
        if _are_for_us(str(message), sys._getframe(1)):
            return None
        return original(message, *args, **kwargs)

    return showwarning


def _are_for_us(text: str, frame: FrameType) -> bool:
    is_for_us = False
    for handler, site in _handlers:
        if site.is_enabled:
            with site:
                is_for_us |= handler(text, frame)
    return is_for_us
