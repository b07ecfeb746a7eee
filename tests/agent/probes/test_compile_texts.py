"""Laws of reading dynamo's texts: the messages of torch 2.13, and those of older versions."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import pytest

from loopscope.probes.compiles.listener import Begin
from loopscope.probes.compiles.metrics import CompilationQueue
from loopscope.probes.compiles.places import Line, frame_name, parse_break, place_of, user_line

_TORCH = "/usr/lib/python3/site-packages/other/modeling.py"
_STACK = f'''
User code traceback:
  File "/home/me/train.py", line 40, in <module>
    main()
  File "/home/me/net.py", line 12, in forward
    x = helper(x)
  File "{_TORCH}", line 7, in helper
    print(x)
'''


def test_the_site_of_a_break_is_the_innermost_line_of_the_users() -> None:
    """The break itself may be inside a package."""
    found = parse_break(f"Graph break in user code at {_TORCH}:7\nGraph Break Reason: Failed to trace\n{_STACK}")

    assert found.location == Line(_TORCH, 7)
    assert found.site == Line("/home/me/net.py", 12)
    assert found.reason == "Failed to trace"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "Graph break (user stack suppressed) in user code at /home/me/net.py:12\nGraph Break Reason: again",
            "again",
        ),
        ("Graph break in user code at /home/me/net.py:12\nReason: Tensor.item\nUser code traceback:\n", "Tensor.item"),
    ],
)
def test_messages_without_a_stack_have_a_line(message: str, reason: str) -> None:
    """A break that was logged before has its line only; older versions said `Reason`."""
    found = parse_break(message)

    assert found.site == Line("/home/me/net.py", 12)
    assert found.reason == reason


def test_a_function_that_is_given_up_is_told_apart() -> None:
    """It runs in Python as a whole."""
    reason = "Failed to handle. Skipping the function and falling back to eager."

    assert parse_break(f"Graph break in user code at /a.py:3\nGraph Break Reason: {reason}").skips_frame


def test_resumed_frames_have_the_name_of_their_function_and_the_line_of_the_break() -> None:
    """Their code objects bear both in the name."""
    name = frame_name("torch_dynamo_resume_in_forward_at_53", "/home/me/net.py", 50)

    assert name.is_resumed
    assert name.label(name.line) == "forward (net.py:53)"


def test_a_frame_of_torch_has_the_line_that_called_it() -> None:
    """`nn.Sequential` is compiled as a function of dynamo's own."""
    import torch._dynamo.external_utils as inner

    name = frame_name("inner", str(inner.__file__), 67)
    place = place_of(name, [Line("/home/me/train.py", 40), Line(str(inner.__file__), 10)])

    assert place["frame"] == "callable (train.py:40)"
    assert place["site"].endswith("train.py:40")


def test_a_package_is_better_than_nothing() -> None:
    """A loop inside an installed package has no line of the user's."""
    assert user_line([Line(_TORCH, 7)]) == Line(_TORCH, 7)
    assert user_line([]) is None


class _OldMetrics:
    """What torch 2.4 kept of a compilation."""

    def __init__(self, compile_id: str, cache_size: int) -> None:
        self.compile_id, self.cache_size = compile_id, cache_size
        self.co_name, self.co_filename, self.co_firstlineno = "forward", "/home/me/net.py", 12
        self.graph_op_count, self.entire_frame_compile_time_s = 3, 0.5
        self.fail_type = self.fail_reason = None
        self.has_guarded_code = True


class BwdCompilationMetrics:
    """The same of a backward graph, by its name there."""

    compile_id = "0/0"
    fail_type = None


def test_metrics_of_an_old_torch_tell_less() -> None:
    """Without `recompile_reason` the reasons are those that were added for the frame's code object."""
    entries: deque[object] = deque(maxlen=64)
    code = compile("\n" * 11 + "def forward(): pass", "/home/me/net.py", "exec").co_consts[0]
    failures = {code: ["before"]}
    utils = SimpleNamespace(_compilation_metrics=entries, guard_failures=failures, counters={})
    queue = CompilationQueue(utils, lambda _: Begin(Line("/home/me/train.py", 3), None))
    queue.forget()
    entries += [_OldMetrics("0/0", 0), BwdCompilationMetrics(), _OldMetrics("0/1", 1)]
    failures[code].append("tensor 'L['x']' size mismatch at index 0. expected 8, actual 6")

    first, backward, second = queue.take()

    assert (first.kind, first.frame, first.reasons, first.seconds) == ("frame", "forward (net.py:12)", (), 0.5)
    assert backward.kind == "backward"
    assert (second.variants, second.called_from) == (2, "/home/me/train.py:3")
    assert second.reasons == ("tensor 'L['x']' size mismatch at index 0. expected 8, actual 6",)
    assert not queue.has_news
