"""Activations: how many units of a model are dead or saturated, on sampled steps, where that is asked for."""

from __future__ import annotations

from .probe import ActivationProbe

__all__ = ["ActivationProbe"]
