"""Laws of the words for guards and graph breaks: texts of PyTorch's, those of older versions and of CUDA included."""

from __future__ import annotations

import pytest
from tests.compiling import judge

from loopscope.activity.breaks import explain_break
from loopscope.activity.reasons import explain_recompilation, guard_line
from loopscope.catalog.families import BREAK_REASONS, RECOMPILE_REASONS
from loopscope.notes import CompileNote

_GRAD_MODE = "0/1: GLOBAL_STATE changed: grad_mode "
_DTYPE = "0/1: tensor 'x' dtype mismatch. expected Float, actual Double"
_SKIPPED = "Attempted to call function marked as skipped\n  Explanation: Dynamo does not know how to trace the "
_GUARDS = [
    ("0/0: tensor 'x' size mismatch at index 0. expected 16, actual 12", "shape"),
    ("0/0: tensor 'L['x']' size mismatch at index 0. expected 16, actual 1", "batch_of_one"),
    ("0/0: tensor 'x' size mismatch at index 1. expected 16, actual 1", "shape"),
    ("0/0: tensor 'x' rank mismatch. expected 2, actual 3", "shape"),
    ("0/0: tensor 'x' dtype mismatch. expected Float, actual BFloat16", "dtype"),
    ("0/0: tensor 'x' stride mismatch at index 1. expected 4, actual 1", "memory_layout"),
    (
        "0/0: tensor 'fn._parameters['bias']' requires_grad mismatch. expected requires_grad=1. Guard failed",
        "requires_grad",
    ),
    ("0/0: tensor 'x' Tensor device index mismatch. Expected device index to be 0, got 1 instead.", "type"),
    ("0/1: 2 <= L['x'].size()[0]  # return x * 2", "batch_of_one"),
    ("0/1: 2 <= x.size()[1]  # return x * 2", "shape"),
    ("0/1: x.size()[0] == y.size()[0]  # x + y", "shape"),
    ("0/1: x.stride()[0] == x.size()[1]", "memory_layout"),
    ("0/0: GLOBAL_STATE changed: grad_mode ", "global_state"),
    ("0/0: GLOBAL_STATE changed: autocast(cuda)_enabled num_threads ", "global_state"),
    ("0/0: ___check_global_state()", "global_state"),
    ("0/0: ___check_current_cuda_device(0)", "global_state"),
    ("0/0: L['self'].dropout.training == True  # return F.dropout(", "train_eval"),
    ("0/0: not L['self'].training", "train_eval"),
    ("2/0: self.param_groups[0]['lr'] == 0.001   # for group in self.param_groups:", "learning_rate"),
    ("2/0: optimizer.param_groups[1]['initial_lr'] == 0.001", "learning_rate"),
    ('2/0: lr == 0.1  # x - lr\nUser stack trace:\n  File "/v/torch/optim/sgd.py", line 306', "learning_rate"),
    ('2/0: lr == 0.1  # x - lr\nUser stack trace:\n  File "/me/optim/sgd.py", line 3', "python_scalar"),
    ("2/0: L['lr'] == 0.1  # return x - lr", "python_scalar"),
    ("2/0: self.lr == 0.1", "python_scalar"),
    ("2/0: config['lr'] == 0.1", "python_scalar"),
    ("2/0: self.param_groups[0]['weight_decay'] == 0.1", "python_scalar"),
    ("0/0: L['k'] == 3  # return x * k", "python_scalar"),
    ("0/0: G['SCALE'] == 3", "python_scalar"),
    ("1/0: ___stack0 == 3.0   # return x*y", "python_scalar"),
    ("0/0: how == 'sum'", "python_scalar"),
    ("0/1: epoch <= 1  # 1.0 if epoch < 2 else 0.5", "python_scalar"),
    ("0/1: 2 <= k  # x * k", "python_scalar"),
    ("0/1: Eq(Mod(k, 2), 0)", "python_scalar"),
    ("0/0: len(xs) == 2  # sum(xs)", "list_length"),
    ("0/0: len(L['xs']) == 2", "list_length"),
    ("0/0: not L['xs']  # if xs:", "list_length"),
    ("0/0: ___check_type_id(k, 9478336), type=<class 'int'>  # x * k  (HINT: type int)", "type"),
    ("0/0: expected type of 'k' to be a tensor type, ' but found <class 'int'>", "type"),
    ("0/0: mask is None", "type"),
    ("0/0: ___check_obj_id(self.hook, 140), type=<class 'function'>", "other"),
    ('0/0: Duplicate tensors found: ["a", "b"]', "other"),
    ("0/1: a is b", "other"),
    ("0/0: BACKEND_MATCH failure: torch.compile detected different backend callables.", "other"),
    ("Unable to find recompilation reasons", "other"),
]


@pytest.mark.parametrize(("guard", "category"), _GUARDS)
def test_a_guard_has_a_category_and_words(guard: str, category: str) -> None:
    """The category is of the closed list, and neither words nor remedy have a hole."""
    reason = explain_recompilation((guard,))

    assert reason.category == category
    assert category in RECOMPILE_REASONS
    assert reason.text
    assert reason.remedy
    assert "{" not in reason.text + reason.remedy


@pytest.mark.parametrize(
    ("guards", "category"),
    [
        ((_GRAD_MODE, "0/0: tensor 'x' size mismatch at index 0. expected 8, actual 4"), "shape"),
        ((_GRAD_MODE, "0/0: self.d.training == True"), "train_eval"),
        (("0/1: self.d.training == False", "0/0: k == 3"), "python_scalar"),
        ((_DTYPE, "0/0: tensor 'x' rank mismatch. expected 1, actual 2"), "shape"),
        (("0/1: ___check_type_id(k, 94), type=<class 'int'>", "0/0: k == 0.5"), "python_scalar"),
    ],
)  # fmt: skip
def test_of_several_variants_the_nearest_one_counts(guards: tuple[str, ...], category: str) -> None:
    """Guards are checked in an order: what failed late was near."""
    assert explain_recompilation(guards).category == category


def test_the_guard_is_one_line_of_bounded_length() -> None:
    """Stack traces behind it and padding within are left out."""
    text = guard_line("0/0: k == 3              # return x * k\nUser stack trace:\n  File" + "x" * 1_000)

    assert text == "k == 3 # return x * k"
    assert len(guard_line("0/0: " + "k" * 1_000)) == 300


_BREAKS = [
    ("Data-dependent branching\n  Explanation: Detected data-dependent branching.", "train.py:3", "data_dependent"),
    ("Dynamic shape operator\n  Explanation: Operator `aten.nonzero.default`'s output", "train.py:3", "data_dependent"),
    ("Unsupported Tensor.item() call with capture_scalar_outputs=False\n  Explanation: x", "train.py:3", "sync"),
    ("Tensor.tolist() with non-integer tensor\n  Explanation: x", "train.py:3", "sync"),
    ("Failed to trace builtin operator\n  Explanation: Cannot trace builtin operator `print`", "train.py:3", "print"),
    ("logging.Logger method not supported for non-export cases\n  Explanation: x", "train.py:3", "print"),
    (_SKIPPED + "Python builtin `_warnings.warn`.", "train.py:3", "print"),
    (_SKIPPED + "builtin `time.sleep.` (e.g. _warnings.warn)", "train.py:3", "unsupported_call"),
    ("Unsupported context manager\n  Explanation: x", "train.py:3", "context_manager"),
    ("Graph break under GenericContextWrappingVariable\n  Explanation: x", "train.py:3", "context_manager"),
    ("Skip calling `torch.compiler.disable()`d function\n  Explanation: x", "train.py:3", "disabled"),
    ("Call to `torch._dynamo.graph_break()`\n  Explanation: User-inserted graph break.", "train.py:3", "disabled"),
    (
        "Call to `torch._dynamo.graph_break()`\n  Explanation: User-inserted",
        "/x/torch/optim/optimizer.py:79",
        "optimizer_step",
    ),
    ("generic_jump TensorVariable()", "train.py:3", "data_dependent"),
    ("call_function BuiltinVariable(print) [ConstantVariable(str)] {}", "train.py:3", "print"),
    ("Tensor.item", "train.py:3", "sync"),
    ("something new", "train.py:3", "other"),
]


@pytest.mark.parametrize(("text", "location", "category"), _BREAKS)
def test_a_break_has_a_category_and_a_remedy(text: str, location: str, category: str) -> None:
    """Texts of torch 2.13, and the short ones of torch 2.4."""
    reason = explain_break(text, location)

    assert reason.category == category
    assert category in BREAK_REASONS
    assert reason.text
    assert reason.remedy


def test_what_is_meant_is_no_warning() -> None:
    """A disabled function and the step of an optimizer leave the graph on purpose."""
    notes = [
        CompileNote(kind="break", site="a.py:1", text="Call to `torch._dynamo.graph_break()`"),
        CompileNote(kind="break", site="a.py:2", location="/x/torch/optim/optimizer.py:79"),
        CompileNote(kind="break", site="a.py:3", text="Data-dependent branching"),
    ]

    assert [found.severity for found in judge(notes).findings] == ["info", "info", "warning"]


def test_a_line_that_breaks_again_is_counted_and_not_told_again() -> None:
    """Each variant of a frame breaks at its line; one event says it."""
    run = judge(CompileNote(kind="break", site="a.py:3", compile_id=f"0/{i}", text="Tensor.item()") for i in range(3))

    assert run.count("graph_breaks") == 3
    assert len(run.findings) == 1


def test_a_suppressed_failure_is_told_once_a_frame() -> None:
    """The error of the backend is in it, in one line."""
    text = "backend='mine' raised:\nRuntimeError: no\nsuch kernel"
    run = judge(CompileNote(kind="failure", frame="f (a.py:3)", site="a.py:3", text=text) for _ in range(2))

    (found,) = run.findings
    assert (found.kind, run.count("compile_fallbacks"), run.count("compilations")) == ("compile_fallback", 1, 0)
    assert "the backend mine failed: RuntimeError: no such kernel" in found.message


def test_cuda_graphs_are_counted_and_a_skip_is_told_once() -> None:
    """A graph that runs without its CUDA graph is a fallback."""
    skip = CompileNote(kind="cudagraph_skip", text="skipping cudagraphs due to mutated inputs", site="a.py:3")
    run = judge([skip, skip, CompileNote(kind="cudagraph_recording"), CompileNote(kind="cudagraph_recording")])

    assert (run.count("cudagraph_skips"), run.count("cudagraph_recordings")) == (2, 2)
    (found,) = run.findings
    assert (found.kind, found.severity, found.site) == ("compile_fallback", "warning", "a.py:3")


def test_a_hit_limit_is_a_fallback_and_no_recompilation() -> None:
    """It says that new variants run eager, why, and what to do about the cause."""
    run = judge([CompileNote(kind="limit", frame="f (a.py:3)", site="a.py:3", reasons=("0/7: k == 7",))])

    (found,) = run.findings
    assert (run.count("compile_fallbacks"), run.count("recompilations")) == (1, 0)
    assert (found.attributes["category"], found.attributes["last_category"]) == ("limit", "python_scalar")
    assert "runs eager" in found.message


def test_another_type_in_place_of_a_value_is_a_change_of_type() -> None:
    """The guard names the old value only; what came instead is in the guards of the new variant."""
    note = CompileNote(kind="frame", frame="f (a.py:3)", reasons=("0/0: k == 3  # x * k",), type_now="Tensor")

    assert judge([note]).findings[0].attributes["category"] == "type"
