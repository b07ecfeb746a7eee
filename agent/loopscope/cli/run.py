"""`loopscope run train.py`: watch a training script that does not know of loopscope."""

from __future__ import annotations

import argparse

import loopscope

from .script import add_script_arguments, run_script

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "run a training script watched, without a line in it; settings come from LOOPSCOPE_... variables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_script_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Attach to whatever trains in this process and run the script; its exceptions and its exit status are its own."""
    with loopscope.attach():
        run_script(arguments)
    return 0
