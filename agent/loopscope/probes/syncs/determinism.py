"""Operators without a deterministic implementation, as PyTorch warns of them where the user asked for warnings."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Sequence
from types import FrameType

import torch

from ...guard import Site
from ...hooks import HookSet
from ...notes import NondeterminismNote
from ...sites import site_of, user_frame
from .warning_hook import listen

__all__ = ["DeterminismReader"]

_TEXT = " does not have a deterministic implementation, but you set "
_CUBLAS_TEXT = "not deterministic because it uses CuBLAS"
_MAX_PENDING = 1_000


class DeterminismReader:
    """Listens from the step on at which `use_deterministic_algorithms(True, warn_only=True)` is seen; never sets it.

    A warning is counted as often as Python's warning filters let it through: by default once an operator and line.
    """

    def __init__(self, hooks: HookSet, site: Site) -> None:
        self._hooks, self._site = hooks, site
        self._is_listening = False
        self._pending: deque[NondeterminismNote] = deque(maxlen=_MAX_PENDING)

    def look(self) -> None:
        """Listen from now on if the user wants to be warned."""
        if not self._is_listening and torch.is_deterministic_algorithms_warn_only_enabled():
            self._is_listening = True
            listen(self._hooks, self._site, self._handle)

    @property
    def has_news(self) -> bool:
        """Whether anything was warned of since the last time."""
        return bool(self._pending)

    def read(self) -> Sequence[NondeterminismNote]:
        """Return what was warned of since the last time."""
        return [self._pending.popleft() for _ in range(len(self._pending))]

    def _handle(self, text: str, frame: FrameType) -> bool:
        operator = text.partition(_TEXT)[0] if _TEXT in text else "CuBLAS" if _CUBLAS_TEXT in text else None
        if operator is None:
            return False
        own, is_other_thread = user_frame(frame), False
        if own is None:
            main = threading.main_thread().ident
            own, is_other_thread = user_frame(sys._current_frames().get(main or 0)), True
        if own is not None:
            self._pending.append(
                NondeterminismNote(
                    operator=operator,
                    site=site_of(own.f_code.co_filename, own.f_lineno or 0),
                    is_other_thread=is_other_thread,
                )
            )
        return False
