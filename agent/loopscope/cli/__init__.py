"""The command line: `loopscope COMMAND`, one file a command; a command is listed when it works."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import loopscope

from . import compare, dashboards, demo, doctor, replay, report, rules, run, top

__all__ = ["main"]

_INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended: 128 + SIGINT, as shells have it."""
_UNUSABLE = 2
"""Exit status for what cannot be used as it was given, as argparse has it."""
_UNREAD = 141
"""Exit status when nobody reads the output any more: 128 + SIGPIPE."""
_COMMANDS = (demo, run, top, doctor, report, compare, replay, dashboards, rules)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; `argv` are the arguments after the program's name."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except loopscope.SettingError as error:
        print(error, file=sys.stderr)
        return _UNUSABLE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # `loopscope ... | head`: who read us has gone; what Python has yet to flush goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loopscope", description="The stethoscope for PyTorch training loops.")
    parser.add_argument("--version", action="version", version=f"loopscope {loopscope.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        name = command.__name__.rpartition(".")[2]
        command_parser = commands.add_parser(name, help=command.SUMMARY, description=command.SUMMARY)
        command.add_arguments(command_parser)
        command_parser.set_defaults(run=command.run)
    return parser
