"""The report as one HTML file."""

from __future__ import annotations

from .page import html_page

__all__ = ["html_page"]
