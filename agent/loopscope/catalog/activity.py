"""Metrics of what the user's code makes the machine do: syncs, compilations, operators without determinism."""

from __future__ import annotations

from .families import (
    ALLOCATOR_EVENTS,
    BREAK_REASONS,
    MAX_FRAMES,
    MAX_SITES,
    RECOMPILE_REASONS,
    SEVERITIES,
    SYNC_KINDS,
    Metric,
)

__all__ = ["ACTIVITY_METRICS"]

ACTIVITY_METRICS: tuple[Metric, ...] = (
    Metric(
        name="loopscope.device.syncs",
        kind="counter",
        unit="{sync}",
        labels=("site", "kind"),
        values=SYNC_KINDS,
        bound=MAX_SITES + len(SYNC_KINDS),
        help="Times the host waited for the device, by kind and source line. Kinds that only the sync mode of CUDA "
        "sees are counted on sampled steps. Allowed ones are not among them.",
    ),
    Metric(
        name="loopscope.device.sync",
        kind="counter",
        unit="s",
        labels=("site", "kind"),
        values=SYNC_KINDS,
        bound=MAX_SITES + len(SYNC_KINDS),
        help="Time the host was blocked in these syncs; not known, and not counted, inside operators.",
    ),
    Metric(
        name="loopscope.allowed_device_syncs",
        kind="counter",
        unit="{sync}",
        labels=("kind",),
        values=SYNC_KINDS,
        bound=len(SYNC_KINDS),
        help="Syncs that allow_syncs or allow_sync covers.",
    ),
    Metric(
        name="loopscope.allocator.events",
        kind="counter",
        unit="{event}",
        labels=("event",),
        values=ALLOCATOR_EVENTS,
        bound=len(ALLOCATOR_EVENTS),
        help="What makes the CUDA caching allocator wait for the device: retries after a failed allocation, waits for "
        "all streams, blocks given back to the driver.",
    ),
    Metric(
        name="loopscope.compilations",
        kind="counter",
        unit="{compilation}",
        help="Graphs that torch.compile compiled, first compilations and recompilations. The parts of a function "
        "before and behind a graph break are graphs of their own.",
    ),
    Metric(
        name="loopscope.backward_compilations",
        kind="counter",
        unit="{compilation}",
        help="Backward graphs that torch.compile compiled when backward ran; those for dynamic shapes are part of the "
        "compilation of their forward graph.",
    ),
    Metric(
        name="loopscope.recompilations",
        kind="counter",
        unit="{compilation}",
        labels=("frame", "reason"),
        values=RECOMPILE_REASONS,
        bound=MAX_FRAMES + len(RECOMPILE_REASONS),
        help="Compilations of a frame that was compiled before, by what had changed.",
    ),
    Metric(
        name="loopscope.graph_breaks",
        kind="counter",
        unit="{break}",
        labels=("site", "reason"),
        values=BREAK_REASONS,
        bound=MAX_SITES + len(BREAK_REASONS),
        help="Lines at which torch.compile left the graph and went on in Python.",
    ),
    Metric(
        name="loopscope.compile_fallbacks",
        kind="counter",
        unit="{fallback}",
        labels=("frame",),
        bound=MAX_FRAMES + 1,
        help="Frames that run eager since: the recompile limit was hit, or the backend failed and errors are "
        "suppressed.",
    ),
    Metric(name="loopscope.compile", kind="counter", unit="s", help="Time spent compiling, backward graphs included."),
    Metric(
        name="loopscope.cudagraph_skips",
        kind="counter",
        unit="{skip}",
        help="Compiled graphs that were to run as a CUDA graph and could not.",
    ),
    Metric(
        name="loopscope.cudagraph_recordings",
        kind="counter",
        unit="{recording}",
        help="CUDA graphs recorded by torch.compile, re-recordings included.",
    ),
    Metric(
        name="loopscope.inplace_conflicts",
        kind="counter",
        unit="{conflict}",
        labels=("site", "op", "severity"),
        values=SEVERITIES,
        bound=MAX_FRAMES + len(SEVERITIES),
        help="Writes in place to what autograd needs, by operator and line; seen on armed steps, and where PyTorch "
        "raised.",
    ),
    Metric(
        name="loopscope.nondeterministic_ops",
        kind="counter",
        unit="{call}",
        labels=("site",),
        bound=MAX_FRAMES + 1,
        help="Calls of operators without a deterministic implementation, where use_deterministic_algorithms warns.",
    ),
)
