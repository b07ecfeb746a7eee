"""Assembly: raw frames from the training thread become reports, in float64, on the worker thread."""

from .noted import with_notes
from .steps import Assembler

__all__ = ["Assembler", "with_notes"]
