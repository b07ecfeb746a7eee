"""The files of deploy/, read strictly, and what Compose makes of its variables."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.python_process import ROOT

__all__ = ["COMPOSE", "DEPLOY", "interpolate", "mounts", "read_yaml"]

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"


class _StrictLoader(yaml.SafeLoader):
    """Takes no key twice: YAML's last one would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{twice} twice in {node.start_mark}"
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Return the one document of a file; AssertionError where a key is there twice, or a second document."""
    documents = list(yaml.load_all(path.read_text(encoding="utf-8"), _StrictLoader))
    assert len(documents) == 1, f"{path} has {len(documents)} documents"
    return documents[0]


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Return a tree with Compose's ${NAME:-default} and ${NAME:?message} filled in; KeyError where one has to be set.

    https://docs.docker.com/reference/compose-file/interpolation/
    """
    if isinstance(value, dict):
        return {key: interpolate(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolate(each, variables) for each in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == ":-":
            return rest
        raise KeyError(name)

    text = re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", fill, value)
    assert "$" not in text, f"not of a form that is known here: {value}"
    return text


def mounts(service: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """Return source and whether it is read-only, by the path in the container."""
    found = {}
    for mount in service.get("volumes", ()):
        if isinstance(mount, dict):
            found[mount["target"]] = (mount["source"], bool(mount.get("read_only")))
            continue
        source, target, *options = mount.split(":")
        found[target] = (source, options == ["ro"])
    return found
