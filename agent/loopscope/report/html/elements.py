"""HTML and SVG as text in which everything is escaped that is not itself made here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from ..humanise import escape_controls

__all__ = ["Html", "details", "join", "table", "tag"]

Attribute = str | float | bool | None


class Html(str):
    """A text that is markup already; any other text is escaped where it becomes part of one."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: Attribute) -> Html:
    """Return an element; `class_` is class, `stroke_width` is stroke-width, None and False leave an attribute out."""
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        written = "viewBox" if key == "view_box" else key.rstrip("_").replace("_", "-")
        parts.append(written if value is True else f'{written}="{_attribute(value)}"')
    return Html(f"<{' '.join(parts)}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Html:
    """Return the children one after the other."""
    return Html("".join(child if isinstance(child, Html) else _escape(child) for child in children))


def details(summary: str, *children: str, **attributes: Attribute) -> Html:
    """Return what is shown on demand."""
    return tag("details", tag("summary", summary), *children, **attributes)


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, num_texts: int = 1, class_: str = ""
) -> Html:
    """Return a table that scrolls by itself where it is too wide; the first `num_texts` columns are text."""
    heads = [tag("th", cell, scope="col", class_=None if i < num_texts else "n") for i, cell in enumerate(header)]
    body = [
        tag("tr", *(tag("td", cell, class_=None if i < num_texts else "n") for i, cell in enumerate(row)))
        for row in rows
    ]
    whole = tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", tag("tr", *heads)),
        tag("tbody", *body),
    )
    return tag("div", whole, class_=f"scroll {class_}".strip(), tabindex="0", role="region", aria_label=caption)


def _attribute(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return _escape(str(value))


def _escape(text: str) -> str:
    return html.escape(escape_controls(text))
