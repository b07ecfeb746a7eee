"""`loopscope top [URL]`: the live view of a run in a terminal; one picture where there is no terminal, or --once."""

from __future__ import annotations

import argparse
import sys

import loopscope

from ..config import client_token
from ..top import DEFAULT_URL, Client, Failure, parse
from ..top.follow import Follower
from .report import has_unicode, text_width

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "watch a run in this terminal: health, loss, layers, events, by its address"
_FAILED = 1
_SHORTEST_SECONDS = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "url",
        nargs="?",
        default=DEFAULT_URL,
        metavar="URL",
        help="where the run serves its live page, as host:port or a URL (default: %(default)s)",
    )
    parser.add_argument("--agent", metavar="NAME", help="the agent to show, where the server has several")
    parser.add_argument("--optimizer", metavar="NAME", help="the optimizer, where the agent watches several")
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="time between two questions (default: %(default)g)",
    )
    parser.add_argument("--token", help="that the server asks for (default: LOOPSCOPE_TOKEN; best kept out of `ps`)")
    parser.add_argument("--ca", metavar="FILE", help="PEM file of the certificate to trust, for https")
    parser.add_argument("--once", action="store_true", help="print one picture; so it is without a terminal")


def run(arguments: argparse.Namespace) -> int:
    """Show the run until q or Ctrl-C is pressed; 0, and 1 without rich. SettingError where there is nothing to show."""
    try:
        from rich.console import Console

        from ..top.watch import picture, watch
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "rich":
            raise
        print("loopscope top needs rich: pip install 'loopscope[top]'", file=sys.stderr)
        return _FAILED
    address = parse(arguments.url)
    client = Client(address, token=arguments.token or address.token or client_token(), ca=arguments.ca)
    follower = Follower(client.ask, agent=arguments.agent, optimizer=arguments.optimizer)
    state = follower.poll()
    if isinstance(state, Failure):
        raise _nothing_to_show(state, address.base, arguments)
    console = Console()
    is_watched = sys.stdout.isatty() and not console.is_dumb_terminal and not arguments.once
    if is_watched:
        watch(
            follower,
            state,
            console=console,
            url=address.base,
            interval_seconds=arguments.interval,
            is_unicode=has_unicode(),
        )
    else:
        has_colours = console.is_terminal and not console.is_dumb_terminal
        text = picture(state, width=text_width(), is_unicode=has_unicode(), has_colours=has_colours)
        print(text, end="", flush=True)
    return 0


def _nothing_to_show(failure: Failure, url: str, arguments: argparse.Namespace) -> loopscope.SettingError:
    wanted = {name: value for name in ("agent", "optimizer") if (value := getattr(arguments, name)) is not None}
    if failure.kind == "missing" and wanted:
        name, value = next(iter(wanted.items()))
        return loopscope.SettingError(name, value, allowed="a name that the server knows", remedy=failure.words)
    words = "Its agents have detached, or not begun yet." if failure.kind == "missing" else failure.words
    return loopscope.SettingError("URL", url, allowed="the address of a run that is under way", remedy=words)


def _seconds(text: str) -> float:
    value = float(text)
    if not _SHORTEST_SECONDS <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} cannot be used. Allowed: {_SHORTEST_SECONDS} and more, in seconds.")
    return value
