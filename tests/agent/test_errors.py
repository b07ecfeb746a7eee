"""Laws of the errors: what was given, what is allowed, what to do."""

from __future__ import annotations

import pytest

from loopscope.errors import SettingError, UnknownSettingError


def test_setting_error_says_all_in_one_line() -> None:
    """The message has the name, the value as Python writes it, what is allowed and the remedy."""
    error = SettingError("port", "http", allowed="a whole number", remedy="Use 0 for any.")

    assert str(error) == "loopscope: port='http' cannot be used. Allowed: a whole number. Use 0 for any."


def test_setting_error_is_a_value_error_with_its_parts() -> None:
    """A caller can catch it as a ValueError and ask for name and value."""
    error = SettingError("port", 70_000, allowed="less", remedy="Use 0.")

    assert isinstance(error, ValueError)
    assert (error.name, error.value) == ("port", 70_000)


def test_unknown_setting_is_a_type_error_with_its_name() -> None:
    """A caller can catch it as the TypeError that an unknown argument is."""
    error = UnknownSettingError("prot", ["port"])

    assert isinstance(error, TypeError)
    assert error.name == "prot"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("prot", "Did you mean 'port'?"),
        ("overhead_bugdet", "Did you mean 'overhead_budget'?"),
        ("zzz", "Known settings: host, overhead_budget, port."),
    ],
)
def test_unknown_setting_names_the_nearest_or_all(name: str, hint: str) -> None:
    """A near name is offered, else all of them in order."""
    error = UnknownSettingError(name, {"port", "host", "overhead_budget"})

    assert str(error) == f"loopscope: there is no setting {name!r}. {hint}"
