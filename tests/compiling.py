"""Programs under torch.compile, watched by the compile probe alone: what it noted, as findings and counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from loopscope.activity.compiles import CompileJournal
from loopscope.activity.counters import Counters
from loopscope.activity.findings import Finding
from loopscope.guard import Guard
from loopscope.hooks import HookSet
from loopscope.notes import CompileNote
from loopscope.probes.compiles import CompileProbe

__all__ = ["Run", "compile_probe", "judge", "watch_compiling"]


class Run(NamedTuple):
    """What came of a program."""

    findings: list[Finding]
    counters: Counters

    def count(self, name: str) -> float:
        """Return the sum over all labels of a counter."""
        return sum(self.counters.snapshot().get(f"loopscope.{name}", {}).values())

    def of_kind(self, kind: str) -> list[Finding]:
        """Return the findings of one kind."""
        return [found for found in self.findings if found.kind == kind]


def compile_probe() -> CompileProbe:
    """Return a probe of its own, not installed."""
    return CompileProbe(HookSet(), Guard(strict=True).at("probe.compiles"))


def judge(notes: Iterable[CompileNote]) -> Run:
    """Have a fresh journal take the notes."""
    run, journal = Run([], Counters()), CompileJournal()
    for note in notes:
        found = journal.take(note, run.counters)
        if found is not None:
            run.findings.append(found)
    return run


def watch_compiling(program: Callable[[], Any]) -> Run:
    """Run a program with the probe in place."""
    probe = compile_probe()
    probe.install()
    try:
        program()
    finally:
        probe.remove()
    return judge(probe.collect())
