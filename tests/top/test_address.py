"""The address of a run: whatever a person copies from somewhere is understood, or told to be none."""

from __future__ import annotations

import pytest

from loopscope import SettingError
from loopscope.top import parse


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("127.0.0.1", "http://127.0.0.1:9464"),
        ("gpu-7:9465", "http://gpu-7:9465"),
        ("9465", "http://127.0.0.1:9465"),
        (":9465", "http://127.0.0.1:9465"),
        ("http://127.0.0.1:9464/", "http://127.0.0.1:9464"),
        ("https://runs.example.com/seven/", "https://runs.example.com/seven"),
        ("http://runs.example.com", "http://runs.example.com"),
        ("[::1]:9464", "http://[::1]:9464"),
        (" http://gpu-7:9464/metrics ", "http://gpu-7:9464"),
        ("http://proxy/a b/api/live?agent=x", "http://proxy/a%20b"),
    ],
)
def test_address_is_understood(text: str, base: str) -> None:
    """A bare host has our port, a URL its own; what is behind it in a browser or in Prometheus may stay."""
    assert parse(text).base == base


def test_token_of_the_pages_address_is_taken() -> None:
    """The address of the live page may have the token behind a hash."""
    assert parse("http://127.0.0.1:9464/#token=a%2Bb").token == "a+b"
    assert parse("http://127.0.0.1:9464/").token is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://host:1", "Begin it with http:// or https://."),
        ("http://", "Use http://127.0.0.1:9464"),
        ("", "Use http://127.0.0.1:9464"),
        ("host:99999", "Port out of range"),
        ("host:port", "Port could not be cast"),
        ("[::1", "Invalid IPv6 URL."),
        ("user:secret@host", "host:port"),
        ("two words", "host:port"),
    ],
)
def test_what_is_no_address_is_told(text: str, words: str) -> None:
    """With what it could be."""
    with pytest.raises(SettingError) as caught:
        parse(text)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [("127.0.0.1", True), ("localhost:1", True), ("[::1]", True), ("10.0.0.1", False), ("gpu-7", False)],
)
def test_this_machine_is_known(text: str, is_loopback: bool) -> None:
    """No proxy is asked for what is on this machine."""
    assert parse(text).is_loopback == is_loopback
