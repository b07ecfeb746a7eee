"""One agent's run on one rank, and the summary of a whole log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .incidents import Incidents
from .log import Entry, Log
from .tracks import Track

__all__ = ["Selection", "Session", "Summary", "summarise"]

_Key = tuple[str, str, int | None]
MAX_SESSIONS = 12
MAX_TRACKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which runs, agents and ranks of a log are wanted; None is every one."""

    run: str | None = None
    agent: str | None = None
    rank: int | None = None

    def has(self, run: object, agent: object, rank: object) -> bool:
        """Whether this one is wanted."""
        pairs = ((self.run, run), (self.agent, agent), (self.rank, rank))
        return all(wanted is None or wanted == value for wanted, value in pairs)

    def __str__(self) -> str:
        names = {"--run": self.run, "--agent": self.agent, "--rank": self.rank}
        return " ".join(f"{name} {value}" for name, value in names.items() if value is not None)


class Session:
    """What a log says of one agent's run on one rank."""

    def __init__(self, run: str, agent: str, rank: int | None) -> None:
        self.run, self.agent, self.rank = run, agent, rank
        self.info: Entry = {}
        self.incidents = Incidents()
        self.counters: dict[str, list[dict[str, Any]]] = {}
        self.num_series_left_out = 0
        self.first_time: float | None = None
        self.last_time: float | None = None
        self.num_tracks_left_out = 0
        self._tracks: dict[str | None, Track] = {}

    @property
    def tracks(self) -> Sequence[Track]:
        """One an optimizer, those that stepped before those that only have epochs."""
        return tuple(self._tracks.values())

    @property
    def seconds(self) -> float:
        """From the first entry to the last."""
        if self.first_time is None or self.last_time is None:
            return 0.0
        return self.last_time - self.first_time

    @property
    def is_beginning_missing(self) -> bool:
        """Whether steps before the first one of the log were taken: rotated away, or dropped."""
        first = min((track.first_step for track in self.tracks if track.first_step is not None), default=None)
        return first is not None and first > self.info.get("initial_step", first)

    def add(self, entry: Entry) -> None:
        """Take in a line of this run."""
        self._note_time(entry.get("time_unix_seconds"))
        kind = entry["type"]
        if kind == "run":
            self.info = self.info or entry
        elif kind == "event":
            self.incidents.add(entry)
        elif kind == "activity":
            self._count(entry)
        elif (track := self._track(entry.get("optimizer"))) is not None:
            track.add_step(entry) if kind == "step" else track.add_epoch(entry)

    def _count(self, entry: Entry) -> None:
        counters: dict[str, list[dict[str, Any]]] = {}
        for row in entry["counters"]:
            counters.setdefault(row["name"], []).append(row)
        self.counters = counters
        self.num_series_left_out = entry.get("num_left_out") or 0

    def _track(self, optimizer: str | None) -> Track | None:
        if optimizer not in self._tracks:
            if len(self._tracks) >= MAX_TRACKS:
                self.num_tracks_left_out += 1
                return None
            self._tracks[optimizer] = Track(optimizer)
        return self._tracks[optimizer]

    def _note_time(self, time: float | None) -> None:
        if time:
            self.first_time = time if self.first_time is None else self.first_time
            self.last_time = max(time, self.last_time or time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a log says, and what could not be read or was left out."""

    log: Log
    sessions: Sequence[Session]
    """In the order in which they began, the latest MAX_SESSIONS of those that were wanted."""
    num_sessions_left_out: int


def summarise(log: Log, selection: Selection | None = None) -> Summary:
    """Read a log once, in bounded memory.

    Raises SettingError where it is none, or nothing in it is of the selection.
    """
    wanted = selection or Selection()
    sessions: dict[_Key, Session] = {}
    others: dict[_Key, None] = {}
    left_out: set[_Key] = set()
    for entry in log:
        key: _Key = (entry["run"], entry["agent"], entry.get("rank"))
        if key not in sessions:
            if not wanted.has(*key):
                others[key] = None
                continue
            if key in left_out:
                continue
            sessions[key] = Session(*key)
            if len(sessions) > MAX_SESSIONS:
                oldest = next(iter(sessions))
                del sessions[oldest]
                left_out.add(oldest)
        sessions[key].add(entry)
    if not sessions:
        raise log.wrong(f"Nothing in it is of {wanted}; it has {_names(list(others))}.")
    return Summary(log=log, sessions=tuple(sessions.values()), num_sessions_left_out=len(left_out))


def _names(keys: Sequence[_Key], max_named: int = 5) -> str:
    named = [
        f"run {run} agent {agent}" + ("" if rank is None else f" rank {rank}") for run, agent, rank in keys[:max_named]
    ]
    rest = len(keys) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "")
