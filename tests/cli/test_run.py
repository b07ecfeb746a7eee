"""`loopscope run` and `loopscope doctor`: scripts that know nothing of loopscope, as Python would run them."""

from __future__ import annotations

import json
import textwrap

import pytest
from tests.python_process import run_python

TRAIN = """
    import sys
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(30):
        loss = model(torch.randn(6, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("done", __name__, sys.argv[1:])
"""
FAILING = """
    import torch
    from torch import nn

    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hidden = torch.exp(model(torch.randn(3, 4)))
    hidden += 1
    hidden.sum().backward()
    optimizer.step()
"""
SILENT = """
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


    def attend(x):
        weights = torch.softmax(model(x), dim=1)
        functional.dropout(weights, 0.5, inplace=True)
        return weights @ x.t()


    for step in range(5):
        optimizer.zero_grad()
        checkpoint(attend, torch.randn(6, 4), use_reentrant=False).square().mean().backward()
        optimizer.step()
"""


@pytest.fixture
def script(tmp_path):
    """Return a function that writes a script and returns its path."""

    def write(text):
        path = tmp_path / "train.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def _loopscope(*arguments, status=0, **variables):
    return run_python("-m", "loopscope.cli", *arguments, status=status, variables=variables)


def test_script_runs_as_main_with_its_arguments(script):
    """It is `__main__`, has its own arguments, options included, and its output is its own."""
    done = _loopscope("run", script(TRAIN), "--epochs", "3")
    assert "done __main__ ['--epochs', '3']" in done.stdout


def test_script_is_watched_without_a_line_in_it(script, tmp_path):
    """Its 30 steps are in the log that an environment variable has asked for, with names and norms."""
    log = tmp_path / "run.jsonl"
    _loopscope("run", script(TRAIN), LOOPSCOPE_JSONL=str(log), LOOPSCOPE_PORT="none")
    steps = [entry for line in log.read_text().splitlines() if (entry := json.loads(line))["type"] == "step"]
    assert [entry["step"] for entry in steps] == list(range(30))
    assert steps[0]["gradients"]["names"] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_exit_status_and_exception_are_the_scripts_own(script):
    """A status given to sys.exit comes through, and an exception ends the process with its traceback and 1."""
    _loopscope("run", script("import sys; sys.exit(7)"), status=7)
    done = _loopscope("run", script("raise KeyError('mine')"), status=1)
    assert "KeyError: 'mine'" in done.stderr


def test_missing_script_is_a_clear_error():
    """The value, what is allowed and the remedy, and exit status 2."""
    done = _loopscope("run", "missing.py", status=2)
    assert "missing.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_module_runs_by_name(script, tmp_path):
    """`-m` takes a module, as Python does."""
    script(TRAIN)
    done = run_python("-m", "loopscope.cli", "run", "-m", "train", cwd=tmp_path)
    assert "done __main__" in done.stdout


def test_doctor_ends_a_healthy_script_after_its_first_steps(script):
    """Status 0, and the script did not come to its end."""
    done = _loopscope("doctor", "--steps", "5", script(TRAIN))
    assert "5 steps, 0 findings" in done.stdout
    assert "done" not in done.stdout


def test_doctor_names_the_culprit_of_a_failing_script(script):
    """The script's exception passes, with the note; the finding names the line; the status is 1."""
    done = _loopscope("doctor", script(FAILING), status=1)
    assert "modified by an inplace operation" in done.stderr
    assert "train.py:8" in done.stdout
    assert "train.py:8" in done.stderr
    assert "hidden += 1" in done.stdout


def test_doctor_finds_silent_corruption(script):
    """Under a checkpoint nothing fails; the doctor says so with the line, and status 1."""
    done = _loopscope("doctor", script(SILENT), status=1)
    assert "critical: inplace_corruption at" in done.stdout
    assert "train.py:14" in done.stdout


def test_doctor_says_when_there_was_nothing_to_check(script):
    """A script without an optimizer step cannot be judged: status 2."""
    done = _loopscope("doctor", script("print('nothing')"), status=2)
    assert "No optimizer step was seen" in done.stderr
