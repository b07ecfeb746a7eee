"""The private parts of PyTorch that our source touches, read off its syntax: imports, attributes, texts."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

__all__ = ["is_private", "private_names"]

_NAME = re.compile(r"_[a-zA-Z]\w{2,}")
_PATH = re.compile(r"torch(\.\w+)+")
_OF_PYTHON = frozenset({"_replace"})
"""Of named tuples, where it is public."""


def is_private(part: str) -> bool:
    """Whether a part of a dotted name is private, as Python has it."""
    return part.startswith("_") and not part.startswith("__")


def private_names(files: Iterable[Path]) -> dict[str, set[Path]]:
    """Return each private name of PyTorch with the files that touch it.

    A name is a path (`torch._C._current_graph_task_id`) where the syntax tells whose it is, else the attribute alone
    (`_sequence_nr`). Names that we define ourselves are ours, and those of ATen's operators are public schemas.
    """
    trees = {file: ast.parse(file.read_text()) for file in files}
    ours = {name for tree in trees.values() for name in _defined(tree)} | _OF_PYTHON
    found: dict[str, set[Path]] = {}
    for file, tree in trees.items():
        for name in _touched(tree):
            is_theirs = "." in name or not (name in ours or hasattr(torch.ops.aten, name))
            if is_theirs and any(map(is_private, name.split("."))):
                found.setdefault(name, set()).add(file)
    return found


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.Assign) and any(_path(target) == "__slots__" for target in node.targets):
            yield from (each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant))
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield from (alias.name for alias in node.names)


def _touched(tree: ast.Module) -> Iterator[str]:
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "torch":
            aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    yield from aliases.values()
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            yield from _of_chain(node, aliases)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield from (match[0] for pattern in (_NAME, _PATH) if (match := pattern.fullmatch(node.value)))


def _of_chain(node: ast.Attribute, aliases: dict[str, str]) -> Iterator[str]:
    path = _path(node)
    root, _, rest = path.partition(".")
    path = f"{aliases.get(root, root)}.{rest}"
    if path.startswith("torch."):
        yield path
    elif root not in sys.stdlib_module_names and (root not in {"self", "cls"} or rest.count(".")):
        yield from rest.split(".")[root in {"self", "cls"} :]


def _path(node: ast.AST) -> str:
    """Return a chain of attributes as it is written; what is no name in it is left out, as `().a.b`."""
    if isinstance(node, ast.Attribute):
        return f"{_path(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
