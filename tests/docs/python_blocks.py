"""Run Python blocks, given as JSON: `[[page, line, text], ...]`; the exit status is 1 where any failed.

Before a block there are a model, an optimizer, a loader, and the log of a run. After it the loop takes one more step:
every agent that the block attached has to have seen steps, and none may have had a fault.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch

import loopscope

_attach = loopscope.attach


def main(path: Path) -> int:
    """Run them all, each in a folder of its own; say which ran, and why the others did not."""
    status = 0
    for page, line, text in json.loads(path.read_text()):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                _run(page, line, text)
                print(f"{page}:{line} ran")
            except Exception:  # noqa: BLE001 - a block of any kind, and the others run all the same
                status = 1
                traceback.print_exc()
            os.chdir(path.parent)
    return status


def _run(page: str, line: int, text: str) -> None:
    namespace = {"__name__": "__main__", "torch": torch, "loopscope": loopscope} | _given()
    agents: list[Any] = []

    def attach(*args: Any, **settings: Any) -> Any:
        agents.append(_attach(*args, **settings))
        return agents[-1]

    loopscope.attach = attach
    exec(compile("\n" * (line - 1) + text, page, "exec"), namespace)
    _step(namespace["model"], namespace["optimizer"], namespace["loader"])
    for agent in agents:
        agent.flush()
        assert agent.latest is not None, f"{page}:{line}: {agent} has seen no step"
        agent.detach()
        assert not agent.internal_errors, f"{page}:{line}: {agent.internal_errors}"


def _given() -> dict[str, Any]:
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dataset = torch.utils.data.TensorDataset(torch.randn(16, 4), torch.randint(3, (16,)))
    loader = torch.utils.data.DataLoader(dataset, batch_size=8)
    with _attach(model, optimizer, port=None, jsonl="run.jsonl"):
        _step(model, optimizer, loader)
    return {"model": model, "optimizer": optimizer, "loader": loader}


def _step(model: Any, optimizer: Any, loader: Any) -> None:
    for inputs, targets in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


if __name__ == "__main__":
    os.environ["LOOPSCOPE_PORT"] = "0"
    torch.set_num_threads(1)
    raise SystemExit(main(Path(sys.argv[1])))
