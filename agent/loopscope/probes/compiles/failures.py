"""GuardFailures: why a frame was compiled again, from the guards of every variant that it had."""

from __future__ import annotations

import ast
import contextlib
import re
from types import CodeType
from typing import Any

__all__ = ["GuardFailures", "Variants"]

_NUMBERED = re.compile(r"^(?P<frame>.+)/(?P<variant>\d+)(?:_\d+)?: ")
_VALUE = re.compile(r"^\S+/\d+(?:_\d+)?: (?P<name>[\w.'\[\]]+) (?:==|is) ")
_EXPECTED_TYPES = (
    r"check_tensor\({name}, ",
    r"___check_type_id\({name}, \d+\), type=<class '(?P<type>[^']+)'>",
    r"___check_obj_id\({name}, \d+\), type=<class '(?P<type>[^']+)'>",
    r"{name} is (?P<type>None)\b",
)
_TRAINING = re.compile(r"(\S+)\.training == (True|False)")


class GuardFailures:
    """Reads `torch._dynamo.utils.guard_failures`, a list of texts a code object, `0/1: text`, that only grows.

    A recompilation appends the failed guard of each variant, the newest first. dynamo's metrics have the first only,
    which misleads: where the newest variant is the one for evaluation, everything seems to be a change of grad mode.
    """

    def __init__(self) -> None:
        self._num_seen: dict[int, int] = {}
        self._fresh: dict[CodeType, list[str]] = {}

    def forget(self, failures: Any) -> None:
        """Take what is there as seen."""
        self.read(failures)
        self._fresh.clear()

    def read(self, failures: Any) -> None:
        """Take up what has come since the last time."""
        self._fresh.clear()
        seen, self._num_seen = self._num_seen, {}
        for code, texts in list((failures or {}).items()):
            num_seen = seen.get(id(code), 0)
            self._num_seen[id(code)] = len(texts)
            fresh = texts[num_seen if num_seen <= len(texts) else 0 :]  # torch._dynamo.reset empties it
            if fresh:
                self._fresh[code] = list(fresh)

    def of(self, compile_id: str | None, first: str | None) -> tuple[CodeType | None, tuple[str, ...]]:
        """Return the code object and all reasons of the compilation whose first reason is `first`."""
        frame = (compile_id or "").rpartition("/")[0]
        for code, texts in self._fresh.items():
            for begin, text in enumerate(texts):
                numbered = _NUMBERED.match(text)
                if numbered is None or numbered["frame"] != frame or (first is not None and text != first):
                    continue
                end = _end_of_group(texts, begin)
                group = tuple(texts[begin:end])
                del texts[begin:end]
                return code, group
        return None, (first,) if first else ()

    def of_code(self, name: str, file: str, first_line: int) -> tuple[str, ...]:
        """Return all reasons of a frame, for a torch whose metrics have none (before 2.5)."""
        for code, texts in self._fresh.items():
            if (code.co_name, code.co_filename, code.co_firstlineno) == (name, file, first_line):
                return tuple(self._fresh.pop(code) and texts)
        return ()


def _end_of_group(texts: list[str], begin: int) -> int:
    """A recompilation goes through the variants from the newest to the oldest."""
    end = begin + 1
    while end < len(texts) and (_variant(texts[end]) < _variant(texts[end - 1])):
        end += 1
    return end


def _variant(text: str) -> int:
    numbered = _NUMBERED.match(text)
    return int(numbered["variant"]) if numbered else -1


class Variants:
    """The guards of a frame's variants as text, from `torch._C._dynamo.eval_frame._debug_get_cache_entry_list`."""

    def __init__(self, list_entries: Any, code: CodeType | None, compile_id: str | None) -> None:
        self._entries = list(list_entries(code)) if list_entries is not None and code is not None else []
        self._compile_id = str(compile_id)

    @property
    def is_training_switched(self) -> bool:
        """Whether this variant is for other values of `Module.training` than all before it."""
        own, *before = (frozenset(_TRAINING.findall(text)) for text in (self._text(), *self._before()))
        return bool(own) and bool(before) and own not in before

    def _text(self) -> str:
        """The guards of this variant, empty where it is gone; about 5 us a guard."""
        own = (entry for entry in self._entries if str(getattr(entry, "compile_id", None)) == self._compile_id)
        return "".join(str(getattr(entry, "guard_manager", "")) for entry in own)

    def _before(self) -> list[str]:
        number = _variant(f"{self._compile_id}: ")
        older = (entry for entry in self._entries if _variant(f"{getattr(entry, 'compile_id', '')}: ") < number)
        return [str(getattr(entry, "guard_manager", "")) for entry in older]

    def type_of(self, reasons: tuple[str, ...]) -> str | None:
        """Return the type that this variant expects where an older one expected a value."""
        names = [match["name"] for text in reasons if (match := _VALUE.match(text))]
        guards = self._text() if names else ""
        return next((found for name in names if (found := _type_in(guards, name))), None)


def _type_in(guards: str, name: str) -> str | None:
    """Return the type that `guards` expect of a local variable, or of an attribute of one."""
    root, dot, rest = name.partition(".")
    source = re.escape(f"L['{root}']{dot}{rest}")
    for pattern in _EXPECTED_TYPES:
        if found := re.search(pattern.format(name=source), guards):
            return found["type"] if "type" in found.re.groupindex else "Tensor"
    value = re.search(rf"EQUALS_MATCH: {source} == (?P<value>.+?)(?:\s{{2,}}#|$)", guards, re.MULTILINE)
    return _type_of_literal(value["value"]) if value else None


def _type_of_literal(text: str) -> str | None:
    with contextlib.suppress(ValueError, SyntaxError):
        return type(ast.literal_eval(text.strip())).__name__
    return None
