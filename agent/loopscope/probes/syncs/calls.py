"""What a line was doing when it had to wait: CUDA's sync warning does not name the operator, the code does."""

from __future__ import annotations

import ast
import dis
import functools
import linecache
import textwrap
from types import CodeType, FrameType

__all__ = ["is_for_device", "kind_of_call", "source_of_call"]

_KINDS = {
    **dict.fromkeys(("nonzero", "argwhere", "where"), "nonzero"),
    **dict.fromkeys(("unique", "unique_consecutive"), "unique"),
    **dict.fromkeys(("to", "cuda", "copy_", "tensor", "as_tensor", "asarray", "type", "set_", "load"), "copy"),
    "masked_select": "masked_select",
    "cpu": "cpu",
    "numpy": "numpy",
    "tolist": "tolist",
    "item": "item",
}
_MAX_REMEMBERED = 1_024


def kind_of_call(frame: FrameType) -> str:
    """Return the kind of sync that the instruction under way in the user's `frame` is: `operator` if it does not say.

    It is the call as the user wrote it: `torch.unique(x)` is one, whatever Python of PyTorch's lies between.
    """
    return _kind(frame.f_code, frame.f_lasti)


def source_of_call(frame: FrameType) -> str | None:
    """Return the expression that the instruction under way in `frame` belongs to, None where it cannot be had."""
    return _segment(frame.f_code, frame.f_lasti)


def is_for_device(frame: FrameType, device: str) -> bool:
    """Whether the call under way in `frame` has this device spelled out among its own arguments.

    `x.to("cuda" if torch.cuda.is_available() else "cpu")` has not: it takes what is there.
    """
    return device in _devices(frame.f_code, frame.f_lasti)


@functools.lru_cache(_MAX_REMEMBERED)
def _devices(code: CodeType, offset: int) -> frozenset[str]:
    try:
        node = ast.parse(_segment(code, offset) or "", mode="eval").body
    except SyntaxError:
        return frozenset()
    if not isinstance(node, ast.Call):
        return frozenset()
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    opened = (value.args[0] if isinstance(value, ast.Call) and value.args and _name(value) == "device" else value
              for value in values)  # fmt: skip
    return frozenset(
        value.value for value in opened if isinstance(value, ast.Constant) and isinstance(value.value, str)
    )


@functools.lru_cache(_MAX_REMEMBERED)
def _kind(code: CodeType, offset: int) -> str:
    segment = _segment(code, offset)
    if segment is None:
        return "mask" if _is_indexing(code, offset) else "operator"
    try:
        node = ast.parse(segment, mode="eval").body
    except SyntaxError:
        return "mask" if _is_indexing(code, offset) else "operator"
    if isinstance(node, ast.Subscript):
        return "mask"
    if isinstance(node, ast.Call):
        return _KINDS.get(_name(node), "operator")
    return "mask" if _is_indexing(code, offset) else "operator"


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@functools.lru_cache(_MAX_REMEMBERED)
def _segment(code: CodeType, offset: int) -> str | None:
    """Return the source of the expression that the instruction belongs to, None where it cannot be had."""
    positions = list(code.co_positions())
    index = offset // 2
    if not 0 <= index < len(positions):
        return None
    first, last, begin, end = positions[index]
    if first is None or last is None or begin is None or end is None:
        return None
    lines = [linecache.getline(code.co_filename, line).encode() for line in range(first, last + 1)]
    if not all(lines):
        return None
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][begin:]
    return textwrap.dedent(b"".join(lines).decode(errors="replace")).strip()


def _is_indexing(code: CodeType, offset: int) -> bool:
    names = {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}
    return "SUBSCR" in names.get(offset, "")
