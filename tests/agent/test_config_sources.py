"""Laws of where settings come from: arguments, a Config, the environment; an unknown name is told with the nearest."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from loopscope.config import ENVIRONMENT_PREFIX, Config, is_disabled, launcher_rank
from loopscope.errors import SettingError, UnknownSettingError


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("ports", "port"), ("exporter", "exporters"), ("window_step", "window_steps"), ("json", "jsonl")],
)
def test_unknown_setting_is_an_error_with_the_nearest_name(name: str, nearest: str) -> None:
    """A setting that does not exist is a TypeError, as for any argument, and names the one that was meant."""
    with pytest.raises(UnknownSettingError, match=f"no setting '{name}'. Did you mean '{nearest}'?") as caught:
        Config.build({name: 1}, environment={})

    assert isinstance(caught.value, TypeError)


def test_unknown_variable_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A LOOPSCOPE_ variable that does not exist may belong to another version: it is named, and ignored."""
    with caplog.at_level(logging.WARNING, logger="loopscope"):
        config = Config.build({}, environment={"LOOPSCOPE_PROT": "1"})

    (record,) = caplog.records
    assert config == Config()
    assert "'LOOPSCOPE_PROT'. Did you mean 'LOOPSCOPE_PORT'?" in record.getMessage()


@pytest.mark.parametrize("variable", ["PORT", "loopscope_port", "LOOPSCOPE_DISABLED", "MY_LOOPSCOPE_PORT"])
def test_other_variables_are_none_of_ours(variable: str, caplog: pytest.LogCaptureFixture) -> None:
    """Variables without the prefix, and the switch that attach reads, are no settings and no warnings."""
    assert Config.build({}, environment={variable: "1"}) == Config()
    assert not caplog.records


def test_environment_is_that_of_the_process_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no environment is given it is os.environ."""
    monkeypatch.setenv("LOOPSCOPE_HISTORY", "17")

    assert Config.build({}).history == 17


def test_arguments_win_over_the_configuration_and_that_over_the_environment() -> None:
    """Each source wins over the one before; what it leaves out stays."""
    environment = {"LOOPSCOPE_PORT": "1", "LOOPSCOPE_HISTORY": "1", "LOOPSCOPE_RUN": "environment"}
    base = Config(port=2, history=2)

    config = Config.build({"port": 3}, environment=environment, base=base)

    assert (config.port, config.history, config.run) == (3, 2, "environment")


@pytest.mark.parametrize("base", [{"port": 0}, "port=0", 9464])
def test_base_has_to_be_a_configuration(base: Any) -> None:
    """`config=` takes a Config; a mapping would leave the nearest name of a mistake unchecked."""
    with pytest.raises(SettingError, match=r"loopscope\.Config"):
        Config.build({}, environment={}, base=base)


@pytest.mark.parametrize("text", ["1", "true", "True", "YES", " on "])
def test_disabled_is_switched_on(text: str) -> None:
    """LOOPSCOPE_DISABLED takes the usual words for yes."""
    assert is_disabled({"LOOPSCOPE_DISABLED": text})


@pytest.mark.parametrize(
    "environment", [{}, *({"LOOPSCOPE_DISABLED": text} for text in ("", "0", "false", "No", "off"))]
)
def test_disabled_is_switched_off(environment: dict[str, str]) -> None:
    """Unset, empty or a word for no leaves loopscope on."""
    assert not is_disabled(environment)


@pytest.mark.parametrize("text", ["2", "disabled", "y"])
def test_switch_takes_no_other_word(text: str) -> None:
    """A word that is no switch is an error that lists those that are."""
    with pytest.raises(SettingError, match=f"LOOPSCOPE_DISABLED='{text}' cannot be used. Allowed: 0, 1, false"):
        is_disabled({"LOOPSCOPE_DISABLED": text})


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "0"}, None),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 0),
        ({"RANK": "7", "WORLD_SIZE": "8"}, 7),
        ({"RANK": "first", "WORLD_SIZE": "8"}, None),
        ({"RANK": "1", "WORLD_SIZE": "many"}, None),
    ],
)
def test_rank_is_that_of_the_launcher(environment: dict[str, str], rank: int | None) -> None:
    """The rank is known where a launcher says that there are several processes."""
    assert launcher_rank(environment) == rank


def test_prefix_is_that_of_the_documentation() -> None:
    """Variables begin with LOOPSCOPE_."""
    assert ENVIRONMENT_PREFIX == "LOOPSCOPE_"
