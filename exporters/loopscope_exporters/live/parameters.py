"""Every parameter of one optimizer, as columns at /api/parameters: what is too much for a time series."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from loopscope.records import GradientTable

from ..encoding import VERSION
from .agents import Agents
from .columns import columns, dump
from .queries import BadQueryError, query, selected

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["PATH", "ParametersPage"]

PATH = "/api/parameters"


class ParametersPage:
    """The WSGI application behind /api/parameters?agent=&optimizer=.

    Norms are those of the latest step that had gradients, the other columns those of the latest sampled step.
    """

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with all parameters; 400 or 404 with the reason for what cannot be answered."""
        try:
            name, state, optimizer = selected(self._agents, query(environ))
        except BadQueryError as fault:
            start_response(fault.status, [("Content-Type", "application/json; charset=utf-8")])
            return [dump({"error": str(fault)}).encode()]
        step, sampled = state.step(optimizer)
        latest = step if step is not None and step.gradients is not None else sampled
        head = dump({"version": VERSION, "agent": name, "optimizer": optimizer})
        start_response("200 OK", [("Content-Type", "application/json; charset=utf-8")])
        if latest is None or latest.gradients is None:
            return [f'{head[:-1]},"step":null,"names":[],"columns":{{}}}}'.encode()]
        table = latest.gradients
        of_sample = None if sampled is None else sampled.gradients
        is_same = of_sample is not None and of_sample.names == table.names
        sampled_step = sampled.step if sampled is not None and is_same else None
        parts = {
            "step": dump(latest.step),
            "sampled_step": dump(sampled_step),
            "names": dump(table.names),
            "layers": dump(table.layers),
            "layer_index": dump(table.layer_index_P.tolist()),
            "frozen": dump(table.frozen),
            "num_nonfinite": dump(table.num_nonfinite.tolist()),
            "columns": columns(_columns(table, of_sample if is_same else None)),
        }
        return [f"{head[:-1]},{','.join(f'{dump(key)}:{text}' for key, text in parts.items())}}}".encode()]


def _columns(table: GradientTable, of_sample: GradientTable | None) -> dict[str, np.ndarray]:
    named = {"norm": np.where(table.is_nonfinite, np.inf, table.norms)}
    sample = None if of_sample is None else of_sample.sample
    if sample is None:
        return named
    return named | {
        "max_abs": sample.max_abs_P,
        "mean": sample.mean_P,
        "zero_ratio": sample.zero_ratio_P,
        "subnormal_ratio": sample.subnormal_ratio_P,
        "weight_norm": sample.weight_norms_P,
        "update_ratio": sample.update_ratios_P,
    }
