"""Laws of the compile probe's place in the process: what it listens to is left as it was, and nobody hears less."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.compiling import compile_probe, judge, watch_compiling
from tests.python_process import run_python
from torch._dynamo import callback, config, utils
from torch._dynamo.utils import counters

_BREAKS = "torch._dynamo.symbolic_convert.__graph_breaks"
_TAPPED = (
    _BREAKS,
    "torch._dynamo.convert_frame.__graph_breaks",
    "torch._dynamo.convert_frame",
    "torch._inductor.cudagraph_utils.__cudagraphs",
    "torch._inductor.cudagraph_trees",
)


class _Ear(logging.Handler):
    """A handler of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def _state() -> list[Any]:
    loggers = [logging.getLogger(name) for name in _TAPPED]
    states = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    return [*states, list(callback.callback_handler.start_callbacks)]


def _break_once() -> None:
    def step(x: Any) -> Any:
        x = x * 2
        torch._dynamo.graph_break()
        return x + 1

    torch.compile(step, backend="eager")(torch.ones(3))


def test_removal_restores_every_logger_exactly() -> None:
    """Levels, propagation, handlers and callbacks are those from before; a second removal does nothing."""
    before = _state()
    probe = compile_probe()

    probe.install()
    probe.install()
    assert _state() != before
    probe.remove()
    probe.remove()

    assert _state() == before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_probes_of_several_agents_share_the_loggers(order: tuple[int, int]) -> None:
    """Whoever leaves first, the other goes on hearing, and the last one restores all."""
    before = _state()
    probes = [compile_probe(), compile_probe()]
    for probe in probes:
        probe.install()
    probes[order[0]].remove()

    _break_once()
    assert len(judge(probes[order[1]].collect()).of_kind("graph_break")) == 1

    probes[order[1]].remove()
    assert _state() == before


def test_two_agents_hear_the_same() -> None:
    """Each has its own notes."""
    inner = []
    outer = watch_compiling(lambda: inner.append(watch_compiling(_break_once)))

    assert [len(run.of_kind("graph_break")) for run in (outer, *inner)] == [1, 1]


def test_nobody_is_shown_breaks_who_did_not_ask() -> None:
    """The opened logger keeps its records from the handlers above."""
    ear = _Ear()
    logging.getLogger("torch._dynamo").addHandler(ear)
    try:
        run = watch_compiling(_break_once)
    finally:
        logging.getLogger("torch._dynamo").removeHandler(ear)

    assert run.count("graph_breaks") == 1
    assert not [text for text in ear.heard if "Graph break" in text]


def test_who_asked_for_breaks_still_gets_them() -> None:
    """TORCH_LOGS=graph_breaks sets the level and a handler above; both stay as they are."""
    logger, ear = logging.getLogger(_BREAKS), _Ear()
    logger.setLevel(logging.DEBUG)
    logging.getLogger("torch._dynamo").addHandler(ear)
    before = _state()
    try:
        run = watch_compiling(_break_once)
        assert _state() == before
    finally:
        logger.setLevel(logging.NOTSET)
        logging.getLogger("torch._dynamo").removeHandler(ear)

    assert run.count("graph_breaks") == 1
    assert [text for text in ear.heard if "Graph break" in text]


def test_a_change_of_the_logs_is_put_right() -> None:
    """`torch._logging.set_logs` resets levels and `torch._dynamo.reset` callbacks: the next look notices."""
    probe = compile_probe()
    probe.install()
    torch._logging.set_logs()
    torch._dynamo.reset()
    probe.collect()

    _break_once()
    run = judge(probe.collect())
    probe.remove()

    assert run.count("graph_breaks") == 1
    assert run.of_kind("compilation")[0].attributes["called_from"]


def test_what_was_compiled_before_is_not_told_but_known() -> None:
    """A frame that was compiled before the probe came is recompiled, not compiled, after."""
    double = torch.compile(lambda x: x * 2, backend="eager")
    double(torch.ones(4))

    run = watch_compiling(lambda: double(torch.ones(5)))

    (found,) = run.findings
    assert (found.kind, found.attributes["category"], found.attributes["variants"]) == ("recompilation", "shape", 2)


def test_an_error_of_a_backend_reaches_the_user_unchanged() -> None:
    """Without `suppress_errors` it is the user's, with and without the probe, and no event."""

    def broken(graph: Any, inputs: Any) -> Any:
        raise ValueError("no such kernel")

    def run() -> None:
        torch.compile(lambda x: x + 1, backend=broken)(torch.ones(3))

    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as bare:
        run()
    torch._dynamo.reset()
    probe = compile_probe()
    probe.install()
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as watched:
        run()
    probe.remove()

    assert str(watched.value) == str(bare.value)
    assert judge(probe.collect()).findings == []


def test_a_full_graph_that_breaks_is_an_error_and_no_event() -> None:
    """The user gets dynamo's exception; nothing left the graph."""

    def step(x: Any) -> Any:
        return x if x.sum() > 0 else -x

    probe = compile_probe()
    probe.install()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(step, backend="eager", fullgraph=True)(torch.ones(3))
    probe.remove()

    assert judge(probe.collect()).findings == []


def test_what_dynamo_forgot_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Of more compilations than dynamo keeps records of, the number is known and the reasons are not."""
    limit = utils._compilation_metrics.maxlen
    utils.set_compilation_metrics_limit(2)
    try:
        probe = compile_probe()
        torch.compile(lambda x: x - 1, backend="eager")(torch.ones(2))
        probe.install()
        with caplog.at_level(logging.WARNING, "loopscope"):
            for factor in range(5):
                torch.compile(_scaler(factor), backend="eager")(torch.ones(2))
            run = judge(probe.collect())
        probe.remove()
    finally:
        utils.set_compilation_metrics_limit(limit)

    assert run.count("compilations") == 5
    assert [record.message for record in caplog.records if record.name == "loopscope"] == [
        "loopscope: dynamo's metrics of some compilations were overwritten before they were read"
    ]


def _scaler(factor: int) -> Any:
    return eval(f"lambda x: x * {factor}")  # a code object of its own each time


def test_silenced_loggers_hide_no_fallback() -> None:
    """Who silences dynamo's warnings is who needs to be told: its metrics say it, too."""
    logger = logging.getLogger("torch._dynamo")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with config.patch(recompile_limit=1):
            run = watch_compiling(_go_over_the_limit)
    finally:
        logger.setLevel(level)

    (found,) = run.of_kind("compile_fallback")
    assert found.attributes["category"] == "limit"
    assert str(found.attributes["frame"]).startswith("scale (test_compiles_in_place.py:")


def _go_over_the_limit() -> None:
    def scale(x: Any, how: str) -> Any:
        return x if how == "a" else x + 1

    compiled = torch.compile(scale, backend="eager")
    for how in "bcd":
        compiled(torch.ones(3), how)


def test_breaks_are_known_without_any_log() -> None:
    """Where `logging.disable` leaves no records, the names of resumed frames still have their lines."""
    logging.disable(logging.CRITICAL)
    try:
        run = watch_compiling(_break_once)
    finally:
        logging.disable(logging.NOTSET)

    assert run.count("graph_breaks") == 1
    assert str(run.of_kind("graph_break")[0].site).startswith("tests/agent/probes/test_compiles_in_place.py:")


def test_a_look_while_another_thread_looks_returns_nothing() -> None:
    """Nobody waits, and nothing is lost."""
    probe = compile_probe()
    probe.install()
    _break_once()

    with probe._lock:
        assert probe.collect() == ()
    assert probe.collect() != ()
    probe.remove()


def test_compile_seconds_are_measured() -> None:
    """Forward and backward graphs are in it."""

    def train() -> None:
        torch.compile(torch.nn.Linear(4, 4), backend="aot_eager")(torch.ones(2, 4)).sum().backward()

    run = watch_compiling(train)

    assert run.count("backward_compilations") == 1
    assert 0 < run.count("compile") < 60


_BEFORE_DYNAMO = """
import sys, torch
from tests.compiling import compile_probe, judge

probe = compile_probe()
probe.install()
print(len(probe.collect()), "torch._dynamo" in sys.modules)
torch.compile(lambda x: x + 1, backend="eager")(torch.ones(3))
run = judge(probe.collect())
probe.remove()
print(run.count("compilations"))
"""


def test_dynamo_is_not_imported_and_found_when_it_is() -> None:
    """Importing it costs seconds, which a loop without torch.compile does not have to spend."""
    assert run_python("-c", _BEFORE_DYNAMO).stdout.split() == ["0", "False", "1"]
