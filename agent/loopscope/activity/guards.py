"""Guards of torch.compile, each with the category, the words and the remedy for what had changed when it failed.

The texts are those of `torch/_dynamo/guards.py` and of the guards in `torch/csrc/dynamo/guards.cpp`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["GUARDS", "GuardRule"]


class GuardRule(NamedTuple):
    """A guard by its text, with the words for it; `{name}` is a group of the pattern."""

    category: str
    pattern: re.Pattern[str]
    text: str
    remedy: str
    is_mode: bool = False


_T = r"tensor '(?P<name>.+?)' "
_OR_DYNAMIC = "or compile with dynamic=True"
_MARK = f"torch._dynamo.mark_dynamic({{name}}, {{dim}}) before the first call, {_OR_DYNAMIC}"
_BATCH = "the last batch: DataLoader(drop_last=True), or pad it to the full size"
_MODES = "None needed: one variant for training and one for evaluation are to be expected."
_ONE_DTYPE = "Cast to one dtype before the compiled call, or compile a function of its own for each."
_STATE = "Set it once before the first compiled call, and keep it."


def _rule(category: str, pattern: str, text: str, remedy: str, *, is_mode: bool = False) -> GuardRule:
    return GuardRule(category, re.compile(pattern), text, remedy, is_mode)


_RULES: tuple[GuardRule, ...] = (
    _rule(
        "global_state",
        r"GLOBAL_STATE changed: *grad_mode *$|is_grad_enabled\(\)",
        "gradients were switched on or off (no_grad, inference_mode)",
        _MODES,
        is_mode=True,
    ),
    _rule("global_state", r"GLOBAL_STATE changed: *(?P<what>.+?) *$", "PyTorch's global state changed: {what}", _STATE),
    _rule(
        "global_state",
        r"___check_global_state|torch_function_mode_stack|CURRENT_DEVICE|___check_current_cuda_device|FUNCTORCH|"
        r"deterministic_algorithms|default_dtype|autocast",
        "PyTorch's global state changed (default device or dtype, autocast, determinism, threads, modes)",
        _STATE,
    ),
    _rule(
        "batch_of_one",
        _T + r"size mismatch at index (?P<dim>0)\. expected (?P<old>\d+), actual (?P<new>1)\b",
        "dimension {dim} of `{name}` was {old} and is now 1, and a size of 1 always has a variant of its own",
        f"Avoid a batch of one; {_BATCH}.",
    ),
    _rule(
        "batch_of_one",
        _T + r"size mismatch at index (?P<dim>0)\. expected (?P<old>1), actual (?P<new>\d+)",
        "dimension {dim} of `{name}` was 1 and is now {new}, and a size of 1 always has a variant of its own",
        "Warm up with a batch of the usual size, and avoid a batch of one.",
    ),
    _rule(
        "shape",
        _T + r"size mismatch at index (?P<dim>0)\. expected (?P<old>\d+), actual (?P<new>\d+)",
        "dimension {dim} of `{name}` was {old} and is now {new}",
        f"Keep one batch size ({_BATCH}), or {_MARK}.",
    ),
    _rule(
        "shape",
        _T + r"size mismatch at index (?P<dim>\d+)\. expected (?P<old>\d+), actual (?P<new>\d+)",
        "dimension {dim} of `{name}` was {old} and is now {new}",
        f"Pad to a few fixed sizes, or {_MARK}.",
    ),
    _rule(
        "shape",
        _T + r"rank mismatch\. expected (?P<old>\d+), actual (?P<new>\d+)",
        "`{name}` had {old} dimensions and has {new}",
        "Reshape to one number of dimensions before the compiled call.",
    ),
    _rule(
        "dtype",
        _T + r"dtype mismatch\. expected (?P<old>\w+), actual (?P<new>\w+)",
        "`{name}` was {old} and is now {new}",
        _ONE_DTYPE,
    ),
    _rule(
        "memory_layout",
        _T + r"stride mismatch at index (?P<dim>\d+)\. expected (?P<old>\d+), actual (?P<new>\d+)",
        "the memory layout of `{name}` changed: its stride {dim} was {old} and is now {new}",
        "Call .contiguous() before the compiled call, or keep one memory format.",
    ),
    _rule(
        "requires_grad",
        r"(?:tensor )?'?(?P<name>[^' ]\S*?)'? requires_grad mismatch\. expected requires_grad=(?P<old>\w+)|"
        r"(?P<name2>\S+)\.requires_grad\b",
        "requires_grad of `{name}` changed",
        "Freeze or unfreeze before the first compiled call; detach inputs that need no gradient.",
    ),
    _rule(
        "global_state",
        r"dispatch key set mismatch.*(?:ADInplaceOrView|Inference)",
        "a tensor of inference mode came where a normal one was before, or the other way round",
        _MODES,
        is_mode=True,
    ),
    _rule(
        "type",
        _T + r"(?:device|dispatch key set|\w*key) .*?mismatch",
        "`{name}` came from another device, or is another kind of tensor",
        "Keep one device and one kind of tensor for each argument.",
    ),
    _rule("type", r"device (?:index )?mismatch", "a tensor came from another device", "Keep one device."),
    _rule(
        "type",
        r"expected type of '(?P<name>.+?)' to be (?:a tensor type|.*?)'? ?,? ?'? but found <class '(?P<new>[^']+)'>",
        "`{name}` was a tensor and is now of type {new}",
        "Pass a tensor on every call, or give the case a compiled function of its own.",
    ),
    _rule(
        "train_eval",
        r"\.training\b",
        "modules were switched from train() to eval() or back",
        _MODES,
        is_mode=True,
    ),
    _rule(
        "learning_rate",
        r"\bparam_groups\[.*\[['\"](?:initial_)?lr['\"]\]",
        "the optimizer's learning rate is a Python number that was compiled in, and a scheduler changed it",
        "Give the optimizer a tensor: lr=torch.tensor(1e-3) (with capturable=True on CUDA).",
    ),
    _rule(
        "batch_of_one",
        r"2 <= (?P<name>[^ ]+?)\.size\(\)\[0\](?!.*\.size\(\))",
        "dimension 0 of `{name}` is 1 (or 0), and these sizes always have variants of their own",
        f"Avoid a batch of one; {_BATCH}.",
    ),
    _rule(
        "shape",
        r"2 <= (?P<name>[^ ]+?)\.size\(\)\[(?P<dim>\d+)\]",
        "dimension {dim} of `{name}` is 0 or 1, and these sizes always have variants of their own",
        "Pad to at least 2 along this dimension, or torch._dynamo.decorators.mark_unbacked it.",
    ),
    _rule(
        "memory_layout",
        r"(?P<name>\S+?)\.(?:stride|storage_offset|is_contiguous)\(",
        "the memory layout of `{name}` changed",
        "Call .contiguous() before the compiled call, or keep one memory format.",
    ),
    _rule(
        "shape",
        r"(?P<name>[\w.'\[\]]+)\.size\(\)|\.shape\b",
        "a size is outside of the range that the compiled code is for",
        "Keep sizes in one range, or pad to a few fixed ones; torch._dynamo.mark_dynamic(tensor, dim, min=, max=).",
    ),
    _rule("dtype", r"\.dtype\b", "a dtype changed", _ONE_DTYPE),
    _rule(
        "type",
        r"___check_type_id\((?P<name>.+?), \d+\), type=<class '(?P<old>[^']+)'>",
        "`{name}` was of type {old} and is now of another",
        "Pass one type on every call, or a tensor.",
    ),
    _rule(
        "type",
        r"^(?P<name>\S+) is (?:not )?None|TYPE_MATCH|___check_type_id",
        "an argument was None and is something now, or the other way round",
        "Pass one type on every call, or give the case a compiled function of its own.",
    ),
    _rule(
        "list_length",
        r"len\((?P<name>.+?)\) [!=]= (?P<old>\d+)",
        "the length of `{name}` was {old} and is now another",
        "Stack the tensors into one, or keep the length; each length has a variant of its own.",
    ),
    _rule(
        "list_length",
        r"^not (?P<name>[A-Za-z_][^\s(]*)$",
        "`{name}` was empty and is not any longer",
        "Stack the tensors into one, or keep the length; each length has a variant of its own.",
    ),
    _rule(
        "list_length",
        r"dict_contains|\.keys\(\)|DICT_KEYS|set_contains",
        "the keys of a dictionary changed",
        "Pass the same keys on every call.",
    ),
    _rule(
        "python_scalar",
        r"^___stack\d+|___stack\d+ ==",
        "a Python number that a graph break brought (.item(), float()) is compiled in, and changed",
        "Keep the value a tensor: without .item() or float() there is neither the break nor the recompilation.",
    ),
    _rule(
        "python_scalar",
        r"^(?P<name>self\.\S+|\w+\.[A-Za-z_]\w*) == (?P<old>.+)$",
        "the Python value `{name}` was {old} when it was compiled in, and changed",
        "Keep what changes from call to call in a tensor (a buffer), not in an attribute.",
    ),
    _rule(
        "python_scalar",
        r"^(?P<name>\S+) (?:==|is|!=) (?P<old>.+)$",
        "the Python value `{name}` was {old} when it was compiled in, and changed",
        "Pass a tensor; for an int compile with dynamic=True; for a string or a flag compile one function for each.",
    ),
    _rule(
        "python_scalar",
        r"^[-\d ]*[<>]=? (?P<name>[A-Za-z_]\S*)|^(?P<name2>[A-Za-z_]\S*) (?:[<>]=?|[+*/%-])|^\W*(?:Eq|Ne|Mod)\(",
        "the Python number `{name}` is outside of the range that the compiled code is for",
        "Keep comparisons of numbers that change outside of the compiled function, or pass a tensor and torch.where.",
    ),
)
_OBJECTS: tuple[GuardRule, ...] = (
    _rule(
        "other",
        r"Duplicate tensors? found|^\S+ is \S+(?<!None)(?<!True)(?<!False)$|not aliased",
        "two arguments are the same tensor now and were not before, or the other way round",
        "Do not pass one tensor for two arguments on some calls only.",
    ),
    _rule(
        "other",
        r"___check_obj_id\((?P<name>.+?), ",
        "`{name}` is another object than before",
        "Make functions, modules and configurations once, outside of the loop.",
    ),
    _rule(
        "other",
        r"BACKEND_MATCH",
        "it was compiled with another backend function before",
        "Make the backend once, outside of the loop.",
    ),
    _rule(
        "other",
        r"Cache line invalidated|deallocated",
        "an object that the compiled code was made for is gone",
        "Keep modules and tensors that the compiled code uses, instead of making them anew.",
    ),
)
GUARDS = (*_OBJECTS, *_RULES)
"""The first rule whose pattern is found counts."""
