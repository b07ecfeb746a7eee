"""The corpus of in-place programs, tests/corpus/inplace, as a list for parametrised tests.

Every program is a file with `make()`, which returns a model, its optimizer (or several by name) and `step(index)`; two
calls of `make` share nothing. Where `make` takes `is_reference`, `make(is_reference=True)` is the same training without
the in-place operation. Marks in comments are what a probe has to name: `# culprit` the lines that modify (any one of
them is right), `# saver` those that saved what is modified. A mark in another file names its program in parentheses.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["OUTCOMES", "ROOT", "Line", "Program", "programs"]

ROOT = Path(__file__).parent / "corpus" / "inplace"
OUTCOMES = ("raises", "silent", "harmless")
_MARK = re.compile(r"# (?P<kind>culprit|saver)\b(?: \((?P<program>\w+)\))?")


class Line(NamedTuple):
    """A line of the corpus."""

    path: Path
    number: int


@dataclass(frozen=True)
class Program:
    """A program and what is known of it.

    `steps` is how many steps it takes until the outcome shows, in the last of them; for harmless programs, how many to
    run. `raises_in` is the user's call that fails. `wrong` says what a silent program leaves wrong, its "gradients" or
    its "buffers". `doubtful` is a reason why a report about a harmless program would not be plainly false.
    """

    name: str
    path: Path
    outcome: str
    steps: int
    raises_in: str | None
    wrong: str | None
    doubtful: str | None
    culprit_lines: tuple[Line, ...]
    saver_lines: tuple[Line, ...]
    make: Callable[..., tuple[Any, Any, Callable[[int], object]]]

    @property
    def has_reference(self) -> bool:
        """Whether `make` takes `is_reference`."""
        return "is_reference" in inspect.signature(self.make).parameters


@cache
def programs(outcome: str | None = None) -> tuple[Program, ...]:
    """Return all programs, or those of an outcome, in the order of their names."""
    paths = sorted(path for path in ROOT.glob("*/*.py") if not path.name.startswith("_"))
    found = (_read(path) for path in paths)
    return tuple(program for program in found if outcome in {None, program.outcome})


def _read(path: Path) -> Program:
    module = importlib.import_module(f"tests.corpus.inplace.{path.parent.name}.{path.stem}")
    outcome = module.OUTCOME
    assert outcome == path.parent.name, path
    return Program(
        name=path.stem,
        path=path,
        outcome=outcome,
        steps=module.STEPS,
        raises_in=getattr(module, "RAISES_IN", None),
        wrong=getattr(module, "WRONG", "gradients") if outcome == "silent" else None,
        doubtful=getattr(module, "DOUBTFUL", None),
        culprit_lines=tuple(_marked(module, path, "culprit")),
        saver_lines=tuple(_marked(module, path, "saver")),
        make=module.make,
    )


def _marked(module: ModuleType, path: Path, kind: str) -> Iterator[Line]:
    for file in (path, *(ROOT / name for name in getattr(module, "ALSO", ()))):
        owner = None if file == path else path.stem
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if any(mark["kind"] == kind and mark["program"] == owner for mark in _MARK.finditer(line)):
                yield Line(file, number)
