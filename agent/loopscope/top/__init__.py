"""A run under way, in a terminal: ask its server, keep what it says, sum it up, draw it. Needs no torch.

Only `screen` and `watch` need rich, so that the command is listed without it.
"""

from __future__ import annotations

from .address import DEFAULT_URL, Address, parse
from .client import Client, Failure

__all__ = ["DEFAULT_URL", "Address", "Client", "Failure", "parse"]
