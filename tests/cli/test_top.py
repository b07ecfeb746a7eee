"""`loopscope top` where there is no terminal: one picture; errors say what to do; what it needs is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.builders import run_info, step_report
from tests.certificates import make_certificate, needs_openssl
from tests.python_process import run_python, start_python
from tests.top.serving import free_port, serving, stranger
from tests.top.states import sick_run

from loopscope.cli import main
from loopscope_exporters.security import Security

WITHOUT = "import sys; sys.modules[{!r}] = None; from loopscope.cli import main; sys.exit(main(sys.argv[1:]))"
TRAIN = """
import time, torch, loopscope
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
agent = loopscope.attach(model, optimizer, port=0, run="seven", log_events=False)
for step in range(30):
    loss = model(torch.randn(6, 4)).square().mean() * (float("nan") if step == 25 else 1.0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
agent.flush(10)
print(agent.url, flush=True)
time.sleep(60)
"""


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    assert main(["top", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--once"]])
def test_without_a_terminal_one_picture_is_printed(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    """Plain text, without a control character, of a width of its own."""
    with serving(*sick_run()) as (url, _):
        text = printed(capsys, url, *options)

    assert " CRITICAL  2 anomalies open" in text
    assert "src/train.py:120" in text
    assert all(line.isprintable() and len(line) <= 100 for line in text.splitlines())


def test_real_run_is_shown() -> None:
    """A loop attached by one line, in a process of its own: its layers, its last step, and what went wrong."""
    with start_python("-c", TRAIN) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()

        text = run_python("-m", "loopscope.cli", "top", url, "--once").stdout

    assert text.startswith("model · seven")
    assert " CRITICAL " in text
    assert "epoch 0 · step 29 " in text
    assert "critical nonfinite_loss" in text
    assert {"0", "2"} <= {line.split()[0] for line in text.splitlines() if "nonfinite  " in line}


def test_agent_and_optimizer_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a process has several."""
    steps = [step_report(optimizer=name, loss=loss) for name, loss in (("generator", 1.5), ("critic", 2.5))]
    with serving(run_info(), *steps) as (url, _):
        first = printed(capsys, url)
        other = printed(capsys, url, "--agent", "model", "--optimizer", "critic")

    assert ("optimizer generator" in first, "optimizer critic" in other) == (True, True)
    assert "1 more with --optimizer" in first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{url}", "--agent", "critic"], ["agent='critic'", "There are: model."]),
        (["{url}", "--optimizer", "critic"], ["optimizer='critic'", "is not here"]),
        (["127.0.0.1:{free}"], ["Nothing listens at http://127.0.0.1:{free}", "loopscope.attach"]),
        (["{stranger}"], ["{stranger}", "is not the live view of a run"]),
        (["gopher://x"], ["Begin it with http:// or https://"]),
        (["{url}", "--ca", "missing.pem"], ["ca='missing.pem'"]),
    ],
)
def test_what_cannot_be_done_is_an_error_with_a_remedy(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 and one line on stderr."""
    with serving(run_info()) as (url, _), stranger(b"hello") as other:
        places = {"url": url, "stranger": other, "free": free_port()}

        assert main(["top", *(each.format(**places) for each in arguments)]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert [word for word in words if word.format(**places) not in captured.err] == []


def test_server_whose_agents_have_gone_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """It is there, and no run on it."""
    with serving() as (url, _):
        assert main(["top", url]) == 2

    assert "Its agents have detached, or not begun yet." in capsys.readouterr().err


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "soon"])
def test_interval_has_bounds(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As argparse tells it."""
    with pytest.raises(SystemExit, match="2"):
        main(["top", "--interval", interval])

    assert "--interval" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "variables"),
    [(["--token", "right"], {}), ([], {"LOOPSCOPE_TOKEN": "right"}), (["--token", "right"], {"LOOPSCOPE_TOKEN": "no"})],
)
def test_token_is_given_or_set(
    options: list[str],
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The option wins over the environment; without either it is asked for."""
    with serving(run_info(), security=Security(token="right")) as (url, _):
        assert main(["top", url]) == 2
        assert "LOOPSCOPE_TOKEN" in capsys.readouterr().err
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        assert "model · run-1" in printed(capsys, url, *options)


@needs_openssl
def test_private_certificate_is_trusted_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--ca FILE."""
    certificate, key = make_certificate(tmp_path)
    with serving(run_info(), security=Security(certificate=certificate, key=key)) as (url, _):
        assert "model · run-1" in printed(capsys, url, "--ca", certificate)


def test_missing_rich_names_the_extra() -> None:
    """Who has installed no extra is told which one; the command is listed nevertheless."""
    done = run_python("-c", WITHOUT.format("rich"), "top", status=1)

    assert done.stderr == "loopscope top needs rich: pip install 'loopscope[top]'\n"
    assert "watch a run in this terminal" in run_python("-c", WITHOUT.format("rich"), "--help").stdout


def test_needs_no_torch() -> None:
    """A run can be watched from a machine that trains nothing; where the output has no Unicode all is ASCII."""
    with serving(*sick_run()) as (url, _):
        done = run_python("-c", WITHOUT.format("torch"), "top", url, variables={"PYTHONIOENCODING": "ascii"})

    assert done.stdout.isascii()
    assert " CRITICAL " in done.stdout


def test_reader_that_goes_away_is_no_fault() -> None:
    """`loopscope top | head -1` ends with the status of a broken pipe, without a traceback."""
    with serving(run_info()) as (url, _):
        command = f"{sys.executable} -m loopscope.cli top {url} | true; exit ${{PIPESTATUS[0]}}"
        shell = f"import subprocess, sys; sys.exit(subprocess.run(['bash', '-c', {command!r}]).returncode)"
        done = run_python("-c", shell, status=141)

    assert "Traceback" not in done.stderr
