"""The generated dashboards as tests look at them: panels, expressions, variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from loopscope_dashboards.render import dashboard_files
from loopscope_dashboards.settings import RuleSettings

__all__ = ["BOARDS", "Expression", "data_panels", "expressions", "fill", "filled", "find", "panels"]

BOARDS: dict[str, dict[str, Any]] = {
    name.removeprefix("loopscope-").removesuffix(".json"): json.loads(text)
    for name, text in dashboard_files(RuleSettings(), "12").items()
}
"""By their short names."""

_ALL = {"job": ".+", "instance": ".+", "run": ".+", "agent": ".+", "rank": ".*"}
_SHORT = {"__interval": "1s", "__interval_ms": "1000", "__range": "60s", "__rate_interval": "5s"}


class Expression(NamedTuple):
    """A PromQL expression and where it stands."""

    board: str
    place: str
    text: str
    is_instant: bool


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all panels, rows and what is folded into them included."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def data_panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels that ask for data."""
    return (panel for panel in panels(board) if panel["type"] not in {"row", "text"})


def expressions(*, has_annotations: bool = False) -> Iterator[Expression]:
    """Yield the expressions of all boards, as they are written."""
    for name, board in BOARDS.items():
        for panel in data_panels(board):
            for target in panel["targets"]:
                place = f"{panel['title']} {target['refId']}"
                yield Expression(name, place, target["expr"], target["instant"])
        for annotation in board["annotations"]["list"] if has_annotations else ():
            if "expr" in annotation:
                yield Expression(name, f"annotation {annotation['name']}", annotation["expr"], is_instant=False)


def fill(text: str, **values: str) -> str:
    """Put in variables as Grafana does: everything is chosen unless `values` say otherwise."""
    known = _ALL | _SHORT | values
    return re.sub(r"\$\{?([A-Za-z_]\w*)\}?", lambda match: known[match[1]], text)


def filled(expression: Expression, **values: str) -> str:
    """Return the text of an expression with variables put in; all ranks are those that its board means by it."""
    (rank,) = (each for each in BOARDS[expression.board]["templating"]["list"] if each["name"] == "rank")
    return fill(expression.text, **{"rank": rank["allValue"]} | values)


def find(board: str, place: str) -> Expression:
    """Return the one expression at a place, such as `Slowest rank A`."""
    (found,) = (each for each in expressions(has_annotations=True) if (each.board, each.place) == (board, place))
    return found
