"""What a report says in words: the figures at its head, and what it could not read or left out."""

from __future__ import annotations

from collections.abc import Sequence

from .humanise import count, number, seconds, share
from .incidents import SEVERITIES
from .sessions import MAX_SESSIONS, Session, Summary
from .tracks import Track

__all__ = ["figures", "log_notes", "origin", "session_name", "session_notes", "severity_counts", "track_name"]


def session_name(session: Session) -> str:
    """Return how a session is told from others: agent, rank and run."""
    rank = "" if session.rank is None else f" · rank {session.rank}"
    return f"{session.agent}{rank} · {session.run}"


def track_name(track: Track) -> str:
    """Return the optimizer's name, empty where it is the only one."""
    return "" if track.optimizer is None else f"optimizer {track.optimizer}"


def figures(session: Session) -> list[tuple[str, str, str]]:
    """Return the figures of a run that matter most: name, value, and what is to be said with it."""
    tracks = session.tracks
    main = max(tracks, key=lambda track: track.num_steps, default=None)
    named = [("duration", seconds(session.seconds), "")]
    if main is None:
        return [*named, ("steps", "0", "")]
    skipped = sum(sum(track.num_skipped.values()) for track in tracks)
    named += [
        (
            "steps",
            " + ".join(count(track.num_steps) for track in tracks),
            f"{count(skipped)} skipped" if skipped else "",
        ),
        ("epochs", count(max(track.num_epochs for track in tracks)), ""),
    ]
    if main.loss:
        is_best = main.loss.whole.num_finite
        lowest = f"lowest {number(main.loss.whole.low)}, step {main.loss.whole.low_step:,}" if is_best else ""
        named.append(("last loss", number(main.loss.last), lowest))
    seconds_in_steps = main.timing.whole.seconds
    if seconds_in_steps:
        about = "" if main.timing.are_quantiles_exact else "about "
        named.append(
            (
                "median step",
                seconds(main.timing.quantile(0.5)),
                f"95 % within {about}{seconds(main.timing.quantile(0.95))}",
            )
        )
        if main.num_samples:
            named.append(("samples/s", _rounded(main.num_samples / seconds_in_steps), ""))
        if main.num_tokens:
            named.append(("tokens/s", _rounded(main.num_tokens / seconds_in_steps), ""))
        named.append(("loopscope's hooks", share(main.overhead_seconds / seconds_in_steps), "of the steps' time"))
    return named


def origin(session: Session) -> list[tuple[str, str]]:
    """Return where a run comes from: model, versions, host."""
    info = session.info
    if not info:
        return []
    size = f"{count(info.get('num_elements', 0))} parameters in {count(info.get('num_parameters', 0))} tensors"
    pairs = [("model", str(info.get("model"))), ("size", size), ("layers", count(len(info.get("layers", ()))))]
    pairs += [(str(name), str(version)) for name, version in (info.get("versions") or {}).items()]
    return [*pairs, ("host", str(info.get("host"))), ("process", str(info.get("pid")))]


def log_notes(summary: Summary) -> list[str]:
    """Return what of the log could not be read or is not shown."""
    notes = summary.log.notes()
    if summary.num_sessions_left_out:
        notes.append(
            f"{count(summary.num_sessions_left_out)} earlier runs are not shown, only the latest {MAX_SESSIONS}: "
            "choose with --run, --agent and --rank."
        )
    return notes


def session_notes(session: Session) -> list[str]:
    """Return what is missing in a run's log or not shown of it."""
    notes: list[str] = []
    if not session.info:
        notes.append("The line that introduces the run is missing: model, versions and settings are not known.")
    if not session.tracks or not any(track.num_reports for track in session.tracks):
        notes.append("No step was logged.")
    if session.is_beginning_missing:
        first = min(track.first_step for track in session.tracks if track.first_step is not None)
        notes.append(f"The log begins at step {first:,}: what was before is in no file of it.")
    dropped = sum(track.num_steps - track.num_reports + sum(track.num_skipped.values()) for track in session.tracks)
    if dropped > 0:
        notes.append(f"{count(dropped)} steps have no line of their own: their reports were dropped and counted.")
    if session.num_tracks_left_out:
        notes.append(f"{count(session.num_tracks_left_out)} lines of further optimizers are not shown.")
    if session.num_series_left_out:
        notes.append(f"{count(session.num_series_left_out)} further lines or frames are counted together, as other.")
    if session.incidents.num_left_out:
        notes.append(f"{count(session.incidents.num_left_out)} further events are not shown.")
    if any(track.has_local_shards for track in session.tracks):
        notes.append("Gradient norms are those of this rank's shards.")
    return notes


def severity_counts(session: Session) -> Sequence[tuple[str, int]]:
    """Return how many incidents there are of each severity, the worst first, those without left out."""
    counts = [(severity, len(session.incidents.ranked(severity))) for severity in SEVERITIES]
    return [(severity, size) for severity, size in counts if size]


def _rounded(value: float) -> str:
    return number(float(f"{value:.3g}"))
