"""Assembly: raw frames from the training thread become reports, in float64, on the worker thread."""

from .steps import Assembler

__all__ = ["Assembler"]
