"""A user's other file."""

from __future__ import annotations


def read(loss):
    return loss.item()  # -> item (helper_of_another_file)
