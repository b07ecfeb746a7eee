"""After the run: a log read once, summarised, and rendered as a page or as text; or compared with another log.

Nothing here needs torch.
"""

from __future__ import annotations

from .comparing import Comparison, compare, comparison_json, comparison_text
from .html import html_page
from .log import Log
from .sessions import Selection, Session, Summary, summarise
from .text import text_report

__all__ = [
    "Comparison",
    "Log",
    "Selection",
    "Session",
    "Summary",
    "compare",
    "comparison_json",
    "comparison_text",
    "html_page",
    "summarise",
    "text_report",
]
