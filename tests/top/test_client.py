"""The client: an answer, or why there is none, in words that say what to do; nobody waits for ever."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from tests.builders import run_info, step_report
from tests.certificates import make_certificate, needs_openssl
from tests.top.serving import client, free_port, serving, stranger

from loopscope import SettingError
from loopscope.top import Failure
from loopscope_exporters.security import Security


def test_answer_is_of_the_run() -> None:
    """What the server says comes back as it is."""
    with serving(run_info(), step_report(7)) as (url, _):
        answer = client(url).ask({})

    assert not isinstance(answer, Failure)
    assert (answer["agent"], answer["step"]["step"]) == ("model", 7)


def test_nobody_listens() -> None:
    """The address is named, and where the right one is to be found."""
    url = f"http://127.0.0.1:{free_port()}"

    failure = client(url).ask({})

    assert isinstance(failure, Failure)
    assert failure.kind == "gone"
    assert f"Nothing listens at {url}." in failure.words
    assert "loopscope.attach" in failure.words


def test_agent_that_is_not_there() -> None:
    """Those that are there are named."""
    with serving(run_info(agent="critic")) as (url, _):
        failure = client(url).ask({"agent": "actor\x1b[2J"})

    assert isinstance(failure, Failure)
    assert failure.kind == "missing"
    assert "There are: critic." in failure.words
    assert failure.words.isprintable()


@pytest.mark.parametrize("token", [None, "wrong"])
def test_token_is_asked_for(token: str | None) -> None:
    """Without one or with a wrong one it is said how to give it; with the right one there is an answer."""
    with serving(run_info(), security=Security(token="right")) as (url, _):
        failure = client(url, token=token).ask({})
        answer = client(f"{url}/#token=right").ask({})

    assert isinstance(failure, Failure)
    assert (failure.kind, "--token" in failure.words, "LOOPSCOPE_TOKEN" in failure.words) == ("token", True, True)
    assert not isinstance(answer, Failure)


def test_token_that_cannot_be_sent_is_told_and_not_shown() -> None:
    """A line break would end the header."""
    with pytest.raises(SettingError) as caught:
        client("http://127.0.0.1:1", token="se\ncret")

    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>It works!</html>", 200),
        (b"", 200),
        (b"\xff\xfe", 200),
        (b"[]", 200),
        (b"[" * 100_000, 200),
        (b'{"version": 1}', 200),
        (b'{"version": "1", "agent": "model"}', 200),
        (b"there are /, /metrics", 404),
        (b"no", 500),
    ],
)
def test_who_is_no_loopscope_server_is_told(body: bytes, status: int) -> None:
    """Whatever it answers."""
    with stranger(body, status=status) as url:
        failure = client(url).ask({})

    assert isinstance(failure, Failure)
    assert failure.kind == "foreign"
    assert "is not the live view of a run" in failure.words


def test_format_of_another_version_is_told() -> None:
    """It is not read as if it were ours."""
    with stranger(json.dumps({"version": 2, "agent": "model"}).encode()) as url:
        failure = client(url).ask({})

    assert isinstance(failure, Failure)
    assert "version 2 of the format" in failure.words


def test_redirection_is_not_followed() -> None:
    """The token goes to nobody else; where it leads is told."""
    with stranger(b"", status=302, headers={"Location": "http://elsewhere.example/x"}) as url:
        failure = client(url, token="secret").ask({})

    assert isinstance(failure, Failure)
    assert "leads elsewhere, to http://elsewhere.example/x" in failure.words


def test_server_that_does_not_answer_is_given_up() -> None:
    """A suspended process takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        failure = client(f"127.0.0.1:{deaf.getsockname()[1]}", answer_seconds=0.05).ask({})

    assert isinstance(failure, Failure)
    assert failure.kind == "silent"


def test_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment knows nothing of our loopback."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with serving(run_info()) as (url, _):
        answer = client(url).ask({})

    assert not isinstance(answer, Failure)


@needs_openssl
def test_certificate_has_to_be_trusted(tmp_path: Path) -> None:
    """A private one with --ca; else it is said how. HTTP for HTTPS, and the other way round, is told."""
    certificate, key = make_certificate(tmp_path)
    with serving(run_info(), security=Security(certificate=certificate, key=key)) as (url, _):
        trusted = client(url, ca=certificate).ask({})
        untrusted = client(url).ask({})
        plain = client(url.replace("https", "http")).ask({})
    with serving(run_info()) as (url, _):
        no_tls = client(url.replace("http", "https")).ask({})

    assert not isinstance(trusted, Failure)
    assert isinstance(untrusted, Failure)
    assert "--ca FILE" in untrusted.words
    assert isinstance(plain, Failure)
    assert isinstance(no_tls, Failure)
    assert "speaks no TLS" in no_tls.words


@pytest.mark.parametrize(("url", "ca"), [("https://h:1", "missing.pem"), ("http://h:1", "any.pem")])
def test_certificate_that_does_not_serve_is_told(url: str, ca: str) -> None:
    """A file that is not there, and one that plain HTTP would ignore."""
    with pytest.raises(SettingError, match="ca="):
        client(url, ca=ca)
