"""Laws of the counters of compilations: in a live scrape, in the log of JSON lines, and with bounded labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from tests.compiling import judge, watch_compiling
from tests.loops import watch
from tests.web import request
from torch import Tensor, nn

from loopscope.catalog import MAX_SITES
from loopscope.notes import CompileNote

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
_HERE = "tests/agent/probes/test_compile_counters.py"


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        torch._dynamo.graph_break()
        return x.relu()


_FORWARD = _Net.forward.__code__.co_firstlineno


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    compiled = torch.compile(model, backend="eager")
    for size in (8, 6):
        compiled(torch.ones(size, 4)).sum().backward()
        optimizer.step()


def _scrape(url: str) -> dict[tuple[str, frozenset[str]], float]:
    """What `_train` brings forth, by name and the values of its own labels."""
    families = text_string_to_metric_families(request(url + "/metrics").text)
    return {
        (sample.name, frozenset(value for name, value in sample.labels.items() if name in {"frame", "site", "reason"})):
        sample.value
        for family in families
        for sample in family.samples
        if sample.name in {"loopscope_recompilations_total", "loopscope_graph_breaks_total"} and sample.value
    }  # fmt: skip


def test_compilations_are_in_a_live_scrape_and_in_the_log(tmp_path: Path) -> None:
    """Frame, line and reason of what happened, in both the same."""
    model, path = _Net(), tmp_path / "run.jsonl"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    frame, line = f"forward (test_compile_counters.py:{_FORWARD})", f"{_HERE}:{_FORWARD + 2}"
    with watch(model, optimizer, port=0, jsonl=str(path)) as watched:
        _train(model, optimizer)
        assert watched.agent.flush(10)
        for _ in range(2):  # series begin at 0
            scraped = _scrape(watched.agent.url)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    counted = [entry for entry in lines if entry["type"] == "activity"][-1]["counters"]
    told = {(entry["kind"], entry["site"]) for entry in lines if entry["type"] == "event"}

    assert scraped[("loopscope_recompilations_total", frozenset({frame, "shape"}))] == 1
    assert scraped[("loopscope_graph_breaks_total", frozenset({line, "disabled"}))] == 2
    assert {("recompilation", f"{_HERE}:{_FORWARD}"), ("graph_break", line)} <= told
    assert _rows(counted, "loopscope.recompilations")[frame, "shape"] == 1
    assert _rows(counted, "loopscope.graph_breaks")[line, "disabled"] == 2


def _rows(counters: list[Any], name: str) -> dict[tuple[str, ...], float]:
    return {tuple(row["labels"].values()): row["value"] for row in counters if row["name"] == name}


@pytest.mark.parametrize("kind", ["frame", "break", "failure"])
def test_200_lines_have_bounded_labels(kind: Any) -> None:
    """Lines of breaks, frames of recompilations and fallbacks: the first have series, `other` has the rest."""
    notes = [
        CompileNote(kind=kind, frame=f"f (a.py:{n})", site=f"a.py:{n}", reasons=("L['k'] == 3",), text="print")
        for n in range(200)
    ]
    name = {"frame": "recompilations", "break": "graph_breaks", "failure": "compile_fallbacks"}[kind]

    run = judge([*notes, *notes])
    values = run.counters.snapshot()[f"loopscope.{name}"]
    own = {labels for labels in values if labels[0] != "other"}

    assert 10 < len(own) <= MAX_SITES
    assert {labels[0] for labels in values} == {labels[0] for labels in own} | {"other"}
    assert run.count(name) == (200 if kind == "failure" else 400)  # a frame fails once
    assert run.counters.num_left_out == 200 - len(own)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")
@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
def test_cuda_graphs_are_not_missed_without_cuda() -> None:
    """`mode="reduce-overhead"` on a machine without CUDA is told once, as information."""

    def train() -> None:
        compiled = torch.compile(nn.Linear(4, 4), mode="reduce-overhead")
        for _ in range(2):
            compiled(torch.ones(2, 4)).sum().backward()

    run = watch_compiling(train)
    (found,) = run.of_kind("compile_fallback")

    assert (found.severity, found.remedy) == ("info", "None needed.")
    assert "no CUDA device" in found.message
    assert run.count("cudagraph_skips") >= 1


@pytest.mark.parametrize("is_without_cuda", [True, False])
def test_cuda_graphs_that_could_have_been_are_missed(is_without_cuda: bool) -> None:
    """With a device the same is a warning, with PyTorch's words and a remedy."""
    text = "skipping cudagraphs due to mutated inputs (1 instances)"
    note = CompileNote(kind="cudagraph_skip", text=text, is_without_cuda=is_without_cuda)

    (found,) = judge([note]).findings

    assert found.severity == ("info" if is_without_cuda else "warning")
    assert (text in found.message) is not is_without_cuda
