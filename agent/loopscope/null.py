"""NullAgent: what attach returns when loopscope is disabled: the face of an Agent, doing nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

from .records import ActivityReport, EpochReport, Event, HealthReport, StepReport

__all__ = ["NullAgent"]


class NullAgent:
    """Every method does nothing; nothing was attached."""

    is_attached = False
    name = ""
    url: str | None = None
    latest: StepReport | None = None
    epochs: tuple[EpochReport, ...] = ()
    events: tuple[Event, ...] = ()
    activity: ActivityReport | None = None
    health: HealthReport | None = None
    should_stop = False
    internal_errors: Mapping[str, int] = MappingProxyType({})

    def log(self, *, loss: Any = None, samples: int | None = None, tokens: int | None = None, **values: Any) -> None:
        """Take nothing."""

    def epoch(self) -> None:
        """Mark nothing."""

    def arm(self, signal: str, steps: int = 2) -> None:
        """Arm nothing."""

    def flush(self, timeout: float = 5.0) -> bool:
        """Return True: there is nothing to wait for."""
        return True

    def detach(self) -> None:
        """Detach nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()
