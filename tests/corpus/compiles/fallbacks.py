"""Programs that run eager in the end, without a word of it in the loop. See `recompilations` for the marks."""

from __future__ import annotations

import torch
from torch._dynamo import config


def recompile_limit(compiler):
    def scale(x, how):  # -> recompilation python_scalar x2, compile_fallback limit
        return x + 1 if how else x

    compiled = compiler(scale)
    with config.patch(recompile_limit=3):
        for how in "abcdefg":
            compiled(torch.ones(4), how)


def failing_backend(compiler):
    def broken(graph, inputs):
        raise RuntimeError("no such kernel")

    @torch.compile(backend=broken)  # -> compile_fallback other
    def double(x):
        return x * 2

    with config.patch(suppress_errors=True):
        for size in (4, 5, 6):
            double(torch.ones(size))


def one_bad_function_of_two(compiler):
    def broken(graph, inputs):
        raise RuntimeError("no such kernel")

    def double(x):  # -> compile_fallback other
        return x * 2

    good, bad = compiler(lambda x: x + 1), torch.compile(double, backend=broken)
    with config.patch(suppress_errors=True):
        for _ in range(3):
            bad(good(torch.ones(4)))
