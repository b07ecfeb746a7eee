"""`loopscope top` in a terminal: it follows the run, the size and the keys, outlives the run, and leaves no trace."""

from __future__ import annotations

import socket
import sys

import pytest
from rich.cells import cell_len
from tests.builders import run_info, step_report
from tests.top.serving import free_port, serving
from tests.top.states import sick_run
from tests.top.terminal import terminal
from tests.waiting import wait_until

FAST = ("--interval", "0.1")
PROMPT = "the shell waits> "


def test_run_is_followed_to_its_end_and_on_to_the_next() -> None:
    """New steps appear; when the run ends that is said with its last picture; then the next run there is shown.

    All the while the picture is as large as the terminal.
    """
    port = free_port()
    with serving(run_info(), step_report(0), port=port) as (url, exporter), terminal("top", url, *FAST) as screen:
        screen.wait_for("step 0 ")
        exporter.export(step_report(77))
        screen.wait_for("step 77 ")
        screen.resize(120, 40)
        lines = screen.wait_for("step 77 ")
        assert (len(lines), {cell_len(line) for line in lines}) == (40, {120})
        screen.resize(60, 15)
        lines = screen.wait_for("step 77 ")
        assert (len(lines), {cell_len(line) for line in lines}) == (15, {60})
        exporter.close()
        screen.wait_for(" ENDED  the run has ended or its process is gone", "step 77 ")
        with serving(run_info(run="run-2"), step_report(5), port=port):
            screen.wait_for("run-2", "step 5 ")
            screen.press(b"q")

            assert screen.end() == 0


@pytest.mark.parametrize(("keys", "status"), [(b"q", 0), (b"\x03", 0), (b"jx\x1b[Aq", 0)])
def test_terminal_is_left_as_it_was(keys: bytes, status: int) -> None:
    """After q and after Ctrl-C, which is the usual way to leave: cursor, modes, and what stood there before."""
    with serving(*sick_run()) as (url, _), terminal("top", url) as screen:
        screen.wait_for(" CRITICAL ")
        screen.press(keys)

        assert screen.end() == status


def test_terminal_is_left_as_it_was_by_a_signal() -> None:
    """SIGTERM ends it with the status that shells have for it."""
    with serving(*sick_run()) as (url, _), terminal("top", url) as screen:
        screen.wait_for(" CRITICAL ")
        screen.process.terminate()

        assert screen.end() == 143


def test_server_that_hangs_does_not_hold_up_the_display() -> None:
    """Somebody who takes connections and says nothing is in the server's place: the display says so, and obeys."""
    port = free_port()
    with serving(run_info(), step_report(0), port=port) as (url, exporter), terminal("top", url, *FAST) as screen:
        screen.wait_for("step 0 ")
        exporter.close()
        screen.wait_for(" ENDED ")
        with socket.create_server(("127.0.0.1", port)):
            screen.wait_for(" NO ANSWER ", "step 0 ")
            screen.press(b"q")

            assert screen.end() == 0


@pytest.mark.parametrize(
    ("variables", "has_colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"PYTHONIOENCODING": "ascii"}, True)]
)
def test_colours_and_characters_suit_the_terminal(variables: dict[str, str], has_colour: bool) -> None:
    """NO_COLOR is heeded, and an encoding without Unicode; the words are the same."""
    with serving(*sick_run()) as (url, _), terminal("top", url, variables=variables) as screen:
        lines = screen.wait_for(" CRITICAL ")
        screen.press(b"q")

        assert screen.end() == 0
    assert ("\x1b[1;7;31m" in screen.told) == has_colour
    assert "".join(lines).isascii() == ("PYTHONIOENCODING" in variables)


@pytest.mark.parametrize(("options", "variables"), [(["--once"], {}), ([], {"TERM": "dumb"})])
def test_one_picture_is_printed_where_that_is_wanted_or_all_that_can_be(
    options: list[str], variables: dict[str, str]
) -> None:
    """With --once, and in a terminal that cannot be redrawn, which gets no control character."""
    with serving(*sick_run()) as (url, _), terminal("top", url, *options, variables=variables) as screen:
        assert screen.process.wait(30) == 0
        told = screen.told

    assert " CRITICAL " in told
    assert ("\x1b[" in told) == ("TERM" not in variables)
    assert "\x1b[?1049h" not in told


def test_suspended_view_gives_the_terminal_back_and_goes_on() -> None:
    """Ctrl-Z leaves the shell its terminal as it was; `fg` draws the picture again."""
    with serving(*sick_run()) as (url, _), terminal(shell=True, variables={"PS1": PROMPT}) as screen:
        screen.press(f"{sys.executable} -m loopscope.cli top {url}\r".encode())
        screen.wait_for(" CRITICAL ")
        screen.press(b"\x1a")
        wait_until(lambda: "Stopped" in screen.told, seconds=20)
        assert screen.told.count("\x1b[?1049l") == 1
        screen.press(b"fg\r")
        screen.wait_for(" CRITICAL ")
        screen.press(b"q")
        wait_until(lambda: screen.told.count("\x1b[?1049l") == 2)
        wait_until(lambda: PROMPT in screen.told.rpartition("\x1b[?1049l")[2])  # else top gets what is typed
        screen.press(b"echo status=$?; exit\r")
        wait_until(lambda: "status=0" in screen.told)
