"""`loopscope demo`: train a small network on real digits, attached by one line, and show what was seen."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import loopscope

from .pathologies import PATHOLOGIES, Pathology
from .telling import conclude, introduce, say_progress, stay
from .verdict import failure_text, is_found

if TYPE_CHECKING:
    from .telling import AnyAgent
    from .training import Training

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "train a small network on real digits for about a minute and show the health of its gradients"
_NUM_EPOCHS = 15
_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--epochs", type=_positive, help=f"epochs to train (default: {_NUM_EPOCHS}, with a pathology 2 or 3)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, split and order (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, help="of the metrics, 0 for any; if it is taken, the next free one (default: 9464)"
    )
    parser.add_argument("--jsonl", type=Path, metavar="PATH", help="log to write (default: a new file in runs/)")
    parser.add_argument("--keep", action="store_true", help="go on serving the metrics after training, until Ctrl-C")
    parser.add_argument(
        "--pathology",
        metavar="NAME",
        choices=list(PATHOLOGIES),
        help="plant this fault and show what loopscope says of it; exit status 1 where it does not see it",
    )
    width = max(map(len, PATHOLOGIES))
    lines = (f"  {name:<{width}}  {pathology.plants}" for name, pathology in PATHOLOGIES.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["pathologies:", *lines])


def run(arguments: argparse.Namespace) -> int:
    """Train, show what was seen, return the exit status: 0, 1 without scikit-learn or where a fault was not seen.

    Ctrl-C while training passes.
    """
    try:
        from . import digits
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return _FAILED
    import torch

    from .training import Training

    pathology = PATHOLOGIES.get(arguments.pathology)
    training = Training() if pathology is None else pathology.training()
    torch.set_num_threads(1)  # a network this small gains nothing from more, and loses much where cores are shared
    torch.manual_seed(arguments.seed)
    loader, validation = digits.loaders(arguments.seed)
    model = training.network()
    optimizer = training.optimizer(model)
    path = arguments.jsonl or Path("runs", f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.jsonl")
    num_epochs = arguments.epochs or (_NUM_EPOCHS if pathology is None else pathology.num_epochs)

    # On the CPU nothing waits for a device: sync_device="cpu" says what would on CUDA.
    with loopscope.attach(
        model, optimizer, jsonl=path, sync_device="cpu", activations=True, **_settings(arguments, pathology, training)
    ) as agent:
        introduce(agent, f"{len(loader)} batches of {digits.BATCH_SIZE} images an epoch", pathology)
        message = "Training is done."
        try:
            for epoch in range(num_epochs):
                training.train_epoch(model, optimizer, loader, epoch)
                accuracy = digits.accuracy(model, validation)
                agent.flush()
                say_progress(agent, f"epoch {epoch:>2} of {num_epochs}", accuracy, pathology)
        except KeyboardInterrupt:
            _end_epoch(agent)
            conclude(agent, path, "Interrupted.", pathology)
            raise
        except _expected(pathology) as error:
            _end_epoch(agent)
            message = failure_text(error)
        conclude(agent, path, message, pathology)
        if arguments.keep:
            stay(agent)
        return 0 if pathology is None or is_found(pathology, agent.events) else _FAILED


def _settings(arguments: argparse.Namespace, pathology: Pathology | None, training: Training) -> dict[str, Any]:
    settings = dict(training.settings)
    if arguments.port is not None:
        settings["port"] = arguments.port
    if pathology is not None:
        settings["log_events"] = False  # they are shown between the epochs
    return settings


def _expected(pathology: Pathology | None) -> tuple[type[Exception], ...]:
    return () if pathology is None else pathology.raises


def _end_epoch(agent: AnyAgent) -> None:
    """End the epoch that was under way, so that it has a report."""
    agent.epoch()
    agent.flush()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} cannot be used. Allowed: 1 and more.")
    return value
