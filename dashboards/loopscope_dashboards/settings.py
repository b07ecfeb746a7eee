"""Settings of the rules: every threshold with its reason. Where a detector decides there is none."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from loopscope.errors import SettingError

__all__ = ["RuleSettings", "duration", "with_changes"]

_UNITS_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSettings:
    """Windows and bounds of the rules; times in seconds, rounded to milliseconds.

    What counts as an anomaly is not decided here: detectors do that in the training process (docs/detectors.md), and
    the alert of a kind follows them at once.
    """

    rate_window_seconds: float = 300.0
    """Window of the recorded rates: at least four scrapes a minute apart, so that one that fails leaves no gap."""
    recent_seconds: float = 300.0
    """How long an anomaly counts after it was told. Many are over within a second, long before the next scrape, and
    only the counter knows of them; the window has to hold several scrapes."""
    run_memory_seconds: float = 7_200.0
    """How far back a run is looked for before it is taken for a new one, whose counters are news as a whole: an outage
    of Prometheus shorter than this does not bring old anomalies back."""
    keep_firing_seconds: float = 120.0
    """How long an alert outlives its condition: a single failed scrape makes every series vanish, and the alert would
    resolve and come again. Two scrapes at a minute's interval."""
    line_seconds: float = 30.0
    """How long the alerts of storms wait, which name the line that does it most often: a line that is new shows 0 in
    its first scrape and its count in the second. Two scrapes at the usual interval of 15 s."""
    stalled_seconds: float = 900.0
    """Without a step for this long a run stands still. A validation pass or a checkpoint takes minutes; NCCL gives up
    after 10 (torch.distributed's default timeout), and what hangs after that does not end by itself."""
    stalled_steps: float = 20.0
    """A run whose steps take minutes has this many of its mean steps to do one: slow steps of healthy runs take some
    three times the usual one (`step_time_outlier`)."""
    first_step_seconds: float = 1_800.0
    """From attach to the first step: loading weights and data, and torch.compile with max-autotune, take minutes."""
    target_down_seconds: float = 120.0
    """Failed scrapes in a row before a target is down: two at a minute's interval, as a busy host may miss one."""
    target_memory_seconds: float = 900.0
    """How long a target that is gone is held to be a run that should be there. A run that has ended is a target that is
    gone as well, where Prometheus is not told (file_sd is): such an alert ends by itself."""
    dropped_ratio: float = 0.05
    """Share of the steps whose reports were dropped. Counts and non-finite flags are carried over, so that a few cost
    nothing; one in twenty leaves detectors that wait for steps in a row with holes."""
    dropped_window_seconds: float = 600.0
    """Window of that share: long against one pause of the machine, short against a run."""
    runbook_base_url: str = "https://github.com/loopscope/loopscope/blob/main/docs/runbooks/"
    """Where the runbooks are: a copy of docs/runbooks on a server of one's own does as well."""

    def __post_init__(self) -> None:
        """Check every value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "runbook_base_url":
                if not (isinstance(value, str) and value.startswith(("http://", "https://", "file:///"))):
                    raise _error(field.name, value, "the URL of a folder", "Begin it with https://.")
                object.__setattr__(self, field.name, value.rstrip("/") + "/")
            elif not _is_positive(value):
                raise _error(field.name, value, "a number above zero", "Times are in seconds.")
            elif field.name.endswith("_seconds") and value < _SHORTEST_SECONDS:
                raise _error(field.name, value, "a millisecond and more", "Prometheus knows no shorter time.")
        if self.dropped_ratio >= 1:
            raise _error("dropped_ratio", self.dropped_ratio, "a share below 1", "Use 0.05 for 5 %.")


_SHORTEST_SECONDS = 0.001


def duration(seconds: float) -> str:
    """Return a duration as Prometheus reads it, in the largest unit that divides it: 300 s are `5m`."""
    milliseconds = round(seconds * 1000)
    for unit, unit_seconds in _UNITS_SECONDS.items():
        count, rest = divmod(milliseconds, round(unit_seconds * 1000))
        if count and not rest:
            return f"{count}{unit}"
    return f"{milliseconds}ms"


def with_changes(texts: Iterable[str], base: RuleSettings | None = None) -> RuleSettings:
    """Return settings with changes such as `stalled_seconds=3600`, later ones winning.

    Raises SettingError for a name that does not exist, with the nearest, and for a value that cannot work.
    """
    known = {field.name for field in fields(RuleSettings)}
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise _error("set", text, "NAME=VALUE", "As in stalled_seconds=3600.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else ""
            raise _error("set", text, f"as NAME: {', '.join(sorted(known))}", hint)
        values[name] = value if name == "runbook_base_url" else _number(name, value)
    return replace(base or RuleSettings(), **values)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _error(name, text, "a number above zero", "Times are in seconds.") from None


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _error(name: str, value: object, allowed: str, remedy: str) -> SettingError:
    return SettingError(name, value, allowed=allowed, remedy=remedy)
