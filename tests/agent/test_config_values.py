"""Laws of the settings' values: as arguments or as text, checked at once, and a mistake is told with its remedy."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from loopscope.config import Config
from loopscope.errors import SettingError


class NullExporter:
    """The least that is an exporter."""

    name = "null"

    def export(self, record: object) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


EXPORTER = NullExporter()
SETTINGS: list[tuple[str, str, Any]] = [
    ("host", "0.0.0.0", "0.0.0.0"),
    ("port", "0", 0),
    ("port", "65535", 65_535),
    ("port", "none", None),
    ("exporters", "memory", ("memory",)),
    ("exporters", "memory, otlp,", ("memory", "otlp")),
    ("exporters", "", ()),
    ("jsonl", "runs/{agent}.jsonl", "runs/{agent}.jsonl"),
    ("jsonl", "None", None),
    ("jsonl_max_bytes", "4096", 4_096),
    ("jsonl_files", "1", 1),
    ("run", "night-7", "night-7"),
    ("overhead_budget", "0.05", 0.05),
    ("overhead_budget", "1", 1.0),
    ("initial_step", "12000", 12_000),
    ("initial_epoch", "3", 3),
    ("steps_per_epoch", "500", 500),
    ("steps_per_epoch", "none", None),
    ("window_steps", "1", 1),
    ("max_layers", "8", 8),
    ("sample_elements", "16", 16),
    ("sync_device", "cpu", "cpu"),
    ("sync_device", "none", None),
    ("sync_interval", "1", 1),
    ("sync_interval", "none", None),
    ("sync_budget", "0", 0),
    ("sync_budget", "None", None),
    ("allow_syncs", "train.py:120, src/metrics.py,", ("train.py:120", "src/metrics.py")),
    ("allow_syncs", "<ipython-input-3-7a>:2", ("<ipython-input-3-7a>:2",)),
    ("allow_syncs", "", ()),
    ("rules", "gradient_spike=off, loss_spike.z_score=8", ("gradient_spike=off", "loss_spike.z_score=8")),
    ("inplace_armed_steps", "0", 0),
    ("activations", "on", True),
    ("on_event", "", print),
    ("stop_on", "critical, memory_creep", ("critical", "memory_creep")),
    ("stop_on", "", ()),
    ("dump_dir", "dumps", "dumps"),
    ("dump_dir", "none", None),
    ("dump_steps", "10", 10),
    ("token", "secret", "secret"),
    ("token", "none", None),
    ("tls_certificate", "certificate.pem", "certificate.pem"),
    ("tls_key", "key.pem", "key.pem"),
    ("discovery_dir", "/var/run/loopscope", "/var/run/loopscope"),
    ("history", "10", 10),
    ("ring_slots", "2", 2),
    ("log_events", "off", False),
    ("fault_limit", "1", 1),
    ("strict", "yes", True),
]
WRONG: list[tuple[str, Any]] = [
    ("host", ""),
    ("host", None),
    ("port", -1),
    ("port", 65_536),
    ("port", 9464.0),
    ("port", True),
    ("port", "9464"),
    ("exporters", 3),
    ("exporters", (object(),)),
    ("jsonl", ""),
    ("jsonl", 3),
    ("jsonl_max_bytes", 4_095),
    ("jsonl_files", 0),
    ("jsonl_files", 1_001),
    ("run", ""),
    ("token", ""),
    ("tls_certificate", ""),
    ("tls_key", 3),
    ("discovery_dir", ""),
    ("run", 7),
    ("overhead_budget", 0),
    ("overhead_budget", -0.01),
    ("overhead_budget", 1.01),
    ("overhead_budget", float("nan")),
    ("overhead_budget", float("inf")),
    ("overhead_budget", "0.01"),
    ("overhead_budget", True),
    ("initial_step", -1),
    ("initial_epoch", -1),
    ("steps_per_epoch", 0),
    ("window_steps", 0),
    ("window_steps", 1_000_001),
    ("max_layers", 0),
    ("max_layers", 65),
    ("sample_elements", 15),
    ("sample_elements", 65_537),
    ("sync_device", ""),
    ("sync_device", "cuda:0"),
    ("sync_device", "gpu"),
    ("sync_device", 0),
    ("sync_interval", 0),
    ("sync_interval", 2.0),
    ("sync_interval", True),
    ("sync_budget", -1),
    ("sync_budget", 1.5),
    ("sync_budget", True),
    ("allow_syncs", 120),
    ("rules", 120),
    ("rules", ("",)),
    ("allow_syncs", ("120",)),
    ("allow_syncs", ("",)),
    ("allow_syncs", (":120",)),
    ("allow_syncs", ("train.py:",)),
    ("allow_syncs", ("train.py:x",)),
    ("allow_syncs", ("train.py", 120)),
    ("allow_syncs", {"train.py": 120}),
    ("inplace_armed_steps", -1),
    ("inplace_armed_steps", 1.5),
    ("inplace_armed_steps", True),
    ("activations", 1),
    ("on_event", "print"),
    ("on_event", 3),
    ("stop_on", 3),
    ("stop_on", ("",)),
    ("dump_dir", ""),
    ("dump_dir", 3),
    ("dump_steps", 0),
    ("dump_steps", 10_001),
    ("history", 0),
    ("ring_slots", 1),
    ("ring_slots", 4_097),
    ("log_events", 1),
    ("fault_limit", 0),
    ("strict", "yes"),
]
every_setting = pytest.mark.parametrize("name", [field.name for field in fields(Config)])


@every_setting
def test_every_setting_is_tested(name: str) -> None:
    """The tables above have a right and a wrong value of each setting."""
    assert name in {setting for setting, _, _ in SETTINGS}
    assert name in {setting for setting, _ in WRONG}


def test_defaults_are_allowed() -> None:
    """Nothing has to be set, and no setting changes by being built."""
    assert Config.build({}, environment={}) == Config()


@pytest.mark.parametrize(("name", "text", "value"), SETTINGS)
def test_setting_is_taken_as_an_argument(name: str, text: str, value: Any) -> None:
    """Each setting can be given to `attach`, and changes nothing else."""
    assert Config.build({name: value}, environment={}) == Config(**{name: value})
    assert getattr(Config.build({name: value}, environment={}), name) == value


@pytest.mark.parametrize(("name", "text", "value"), [each for each in SETTINGS if each[0] != "on_event"])
def test_setting_is_taken_from_the_environment(name: str, text: str, value: Any) -> None:
    """Each setting is also LOOPSCOPE_<NAME>, written as text, of the same type as the argument."""
    setting = getattr(Config.build({}, environment={f"LOOPSCOPE_{name.upper()}": f" {text} "}), name)

    assert setting == value
    assert type(setting) is type(value)


def test_a_function_cannot_come_from_the_environment(caplog: pytest.LogCaptureFixture) -> None:
    """A name of a function in the environment would be code from outside: it is left alone, with a warning."""
    config = Config.build({}, environment={"LOOPSCOPE_ON_EVENT": "os.system"})

    assert config == Config()
    assert caplog.text.count("LOOPSCOPE_ON_EVENT") == 1


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_value_is_an_error_that_helps(name: str, value: Any) -> None:
    """The error is a ValueError that names the setting, the value, what is allowed and what to do."""
    with pytest.raises(SettingError) as caught:
        Config.build({name: value}, environment={})

    message = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.name == name
    assert f"{name}={caught.value.value!r} cannot be used" in message
    allowed, remedy = message.split("Allowed: ")[1].split(". ", maxsplit=1)
    assert allowed
    assert remedy.endswith(".")


@pytest.mark.parametrize(
    ("name", "text"),
    [("port", "http"), ("port", "9464.5"), ("overhead_budget", "1 %"), ("strict", "maybe"), ("history", "")],
)
def test_unreadable_text_is_an_error_that_names_the_variable(name: str, text: str) -> None:
    """Text in the environment that is not of the setting's type is told by the name of the variable."""
    variable = f"LOOPSCOPE_{name.upper()}"

    with pytest.raises(SettingError, match=rf"{variable}='{text}' cannot be used\. Allowed: .+\. .+\."):
        Config.build({}, environment={variable: text})


def test_readable_text_out_of_range_is_an_error() -> None:
    """The environment is held to the same bounds as the arguments."""
    with pytest.raises(SettingError, match="port=70000"):
        Config.build({}, environment={"LOOPSCOPE_PORT": "70000"})


@pytest.mark.parametrize("value", ["memory", ["memory"], ("memory",)])
def test_exporters_may_be_one_or_several(value: Any) -> None:
    """`exporters=` takes a name or a sequence of them."""
    assert Config.build({"exporters": value}, environment={}).exporters == ("memory",)


@pytest.mark.parametrize("value", [EXPORTER, [EXPORTER], (EXPORTER,)])
def test_exporters_may_be_objects(value: Any) -> None:
    """`exporters=` takes anything with the methods of an exporter."""
    assert Config.build({"exporters": value}, environment={}).exporters == (EXPORTER,)


@pytest.mark.parametrize("value", ["memory", ["memory"], 3])
def test_config_itself_takes_exporters_as_a_tuple(value: Any) -> None:
    """A frozen record holds nothing that changes, and no text whose letters would pass for names."""
    with pytest.raises(SettingError, match="Allowed: a tuple of names"):
        Config(exporters=value)


def test_jsonl_may_be_a_path() -> None:
    """`jsonl=` takes a path object as well."""
    assert Config.build({"jsonl": Path("runs") / "log.jsonl"}, environment={}).jsonl == str(Path("runs/log.jsonl"))
    assert Config.build({"dump_dir": Path("runs")}, environment={}).dump_dir == "runs"


def test_configuration_is_frozen() -> None:
    """What was checked stays so."""
    with pytest.raises(FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]  # the point of the test


def test_settings_have_names() -> None:
    """Settings are keyword-only: an order of twenty would be no interface."""
    with pytest.raises(TypeError):
        Config("127.0.0.1")  # type: ignore[call-arg]  # the point of the test
