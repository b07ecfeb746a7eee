"""Run a user's script as `python script.py` would, in this process, with an agent attached before its first line."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import loopscope

__all__ = ["add_script_arguments", "run_script"]


def add_script_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the script, or the module, and what it is given."""
    parser.add_argument("-m", dest="is_module", action="store_true", help="SCRIPT is a module, as in `python -m`")
    parser.add_argument("script", metavar="SCRIPT", help="the training script; it need not know of loopscope")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="what the script is given")


def run_script(arguments: argparse.Namespace) -> None:
    """Run it as the main program; its exceptions and its SystemExit pass.

    Raises SettingError for a script that is not there.
    """
    name: str = arguments.script
    sys.argv = [name, *arguments.arguments]
    if arguments.is_module:
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(name, run_name="__main__", alter_sys=True)
        return
    path = Path(name)
    if not path.exists():
        raise loopscope.SettingError(
            "SCRIPT", name, allowed="a Python file that exists", remedy="Use -m for the name of a module."
        )
    sys.path.insert(0, str(path.resolve().parent))
    runpy.run_path(str(path), run_name="__main__")
