"""`loopscope demo`: train a small network on real digits, attached by one line, and show what was seen."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import loopscope

from ..records import EpochReport
from .tables import epoch_table, layer_table, sync_table

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer
    from torch.utils.data import DataLoader

    from ..agent import Agent
    from ..null import NullAgent

    _AnyAgent: TypeAlias = Agent | NullAgent

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "train a small network on real digits for about a minute and show the health of its gradients"
_NUM_EPOCHS = 15
_MAX_NORM = 5.0
_FAILED = 1
_WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--epochs", type=_positive, default=_NUM_EPOCHS, help="epochs to train (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, split and order (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, help="of the metrics, 0 for any; if it is taken, the next free one (default: 9464)"
    )
    parser.add_argument("--jsonl", type=Path, metavar="PATH", help="log to write (default: a new file in runs/)")
    parser.add_argument("--keep", action="store_true", help="go on serving the metrics after training, until Ctrl-C")


def run(arguments: argparse.Namespace) -> int:
    """Train, show the tables, return the exit status: 0, 1 without scikit-learn; Ctrl-C while training passes."""
    try:
        from . import digits
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return _FAILED
    import torch

    torch.set_num_threads(1)  # a network this small gains nothing from more, and loses much where cores are shared
    torch.manual_seed(arguments.seed)
    training, validation = digits.loaders(arguments.seed)
    model = digits.DigitsNetwork()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    path = arguments.jsonl or Path("runs", f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.jsonl")

    settings = {} if arguments.port is None else {"port": arguments.port}

    # On the CPU nothing waits for a device: sync_device="cpu" says what would on CUDA.
    with loopscope.attach(model, optimizer, jsonl=path, sync_device="cpu", **settings) as agent:
        _introduce(agent, f"{len(training)} batches of {digits.BATCH_SIZE} images an epoch")
        try:
            for epoch in range(arguments.epochs):
                _train_epoch(model, optimizer, training)
                accuracy = digits.accuracy(model, validation)
                agent.flush()
                _say_progress(agent, f"epoch {epoch:>2} of {arguments.epochs}", accuracy)
        except KeyboardInterrupt:
            agent.epoch()  # ends the epoch that was under way, so that it has a report
            agent.flush()
            _conclude(agent, path, "Interrupted.")
            raise
        _conclude(agent, path, "Training is done.")
        if arguments.keep:
            _stay(agent)
    return 0


def _train_epoch(model: Module, optimizer: Optimizer, loader: DataLoader[tuple[Tensor, ...]]) -> None:
    """Train for one pass: nothing in here knows of loopscope."""
    import torch

    for images, labels in loader:
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch has no type for it
        torch.nn.utils.clip_grad_norm_(model.parameters(), _MAX_NORM)
        optimizer.step()


def _introduce(agent: _AnyAgent, data: str) -> None:
    _say(f"Digits of scikit-learn, {data}. Attached by loopscope.attach(model, optimizer, ...):")
    if not agent.is_attached:
        _say("LOOPSCOPE_DISABLED is set: nothing is watched.")
    if agent.url is not None:
        for what, where in (("metrics", "/metrics"), ("health", "/healthz"), ("state", "/api/state")):
            _say(f"  {what:<8} {agent.url}{where}")
    _say()


def _say_progress(agent: _AnyAgent, epoch: str, accuracy: float) -> None:
    parts = [epoch, f"validation accuracy {accuracy:6.2%}"]
    reports = _epochs(agent)
    if reports:
        report = reports[-1]
        parts.insert(1, f"loss {_number(report.loss)}")
        if report.num_samples is not None and report.duration_seconds:
            parts.append(f"{report.num_samples / report.duration_seconds:5,.0f} samples/s")
        parts.append(f"gradient norm {_number(report.global_norm.get('mean'))}")
    _say("   ".join(parts))


def _conclude(agent: _AnyAgent, path: Path, message: str) -> None:
    _say(f"\n{message}")
    reports = _epochs(agent)
    if reports:
        _say("\nGradient norm of each layer, mean over the epoch's steps, after clipping:\n")
        _say(epoch_table(reports))
        _say("\nEach layer over the whole run:\n")
        _say(layer_table(reports))
    if not agent.is_attached:
        return
    if agent.activity is not None and agent.activity.counters.get("loopscope.device.syncs"):
        _say("\nLines at which this loop would wait for the device, were it on CUDA:\n")
        _say(sync_table(agent.activity))
    for event in agent.events:
        _say(f"\n{event.severity}: {event.kind} at step {event.step}")
        _say(textwrap.fill(f"{event.message} {event.remedy}", _WIDTH, initial_indent="  ", subsequent_indent="  "))
    _say(f"\nEvery step, with every parameter, is in {path}:")
    _say(f"  python3 -m json.tool --json-lines {path} | less")


def _stay(agent: _AnyAgent) -> None:
    _say(f"\nServing {agent.url}/metrics until Ctrl-C.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        _say()


def _epochs(agent: _AnyAgent) -> list[EpochReport]:
    return [report for report in agent.epochs if report.kind == "epoch"]


def _number(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.4f}"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} cannot be used. Allowed: 1 and more.")
    return value


def _say(line: str = "") -> None:
    print(line, flush=True)  # a line at a time also where the output is a pipe
