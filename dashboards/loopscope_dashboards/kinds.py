"""What an alert says of each kind of anomaly: one sentence on what it is, and what to do first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loopscope.catalog import EVENT_KINDS, EventKind

__all__ = ["NEVER_ALERTED", "TEXTS", "KindText", "alerted_kinds"]

NEVER_ALERTED = frozenset({"compilation", "loss_plateau", "step_time_outlier"})
"""Kinds that are `info` whatever happens: nobody has to act, and `loopscope_anomalies_total` does not count them."""

_SYNCS, _RECOMPILATIONS = "loopscope_device_syncs_total", "loopscope_recompilations_total"
_BREAKS, _FALLBACKS = "loopscope_graph_breaks_total", "loopscope_compile_fallbacks_total"
_CONFLICTS, _NONDETERMINISTIC = "loopscope_inplace_conflicts_total", "loopscope_nondeterministic_ops_total"


@dataclass(frozen=True, slots=True)
class KindText:
    """The words of one alert."""

    summary: str
    """One sentence without values: it is the same for every run."""
    action: str
    """What to do first; the runbook has the rest."""
    counter: str = ""
    """The counter by source line or frame that says where, for what a line of code causes."""
    place: str = "site"
    """The label of that counter."""
    waits: bool = False
    """Whether the line is one of many that count all the time: two scrapes tell which counts most."""


def alerted_kinds() -> tuple[EventKind, ...]:
    """Return the kinds of the catalog that a person should act on, in its order."""
    return tuple(kind for kind in EVENT_KINDS if kind.name not in NEVER_ALERTED)


TEXTS: Mapping[str, KindText] = {
    "nonfinite_gradient": KindText(
        "A gradient has become NaN or infinite.",
        "Stop the run if the step was taken: the weights are lost. Go back to a checkpoint from before it.",
    ),
    "nonfinite_loss": KindText(
        "The loss has become NaN or infinite.",
        "Look at the batch of this step and at logarithms, divisions and square roots in the loss.",
    ),
    "exploding_gradient": KindText(
        "The gradient's norm has left its range upwards and stays there.",
        "Lower the learning rate, lengthen its warm-up or clip; the weights may still be sound.",
    ),
    "gradient_spike": KindText(
        "The gradient's norm was far outside of its usual range for a step.",
        "Look at the batch of that step; clip gradients if it comes back.",
    ),
    "accumulating_gradient": KindText(
        "The gradient grows step by step as if zero_grad were forgotten.",
        "Call optimizer.zero_grad() once for each optimizer.step().",
    ),
    "vanishing_gradient": KindText(
        "A layer gets a gradient far below that of the layers behind it.",
        "Look at activations and initialisation between this layer and the next healthy one.",
    ),
    "dead_layer": KindText(
        "A layer gets no gradient while others train.",
        "Look for a detach(), a no_grad block or an output that nobody uses.",
    ),
    "frozen_layer": KindText(
        "A layer has a gradient and its weights do not change.",
        "See whether its parameters are in the optimizer, and whether they were replaced after it was made.",
    ),
    "zero_learning_rate": KindText(
        "The learning rate of every parameter group is 0.",
        "Look at the scheduler: its total of steps, its warm-up, and what it was restored from.",
    ),
    "update_ratio": KindText(
        "The optimizer's update is out of proportion to the weights.",
        "Lower the learning rate of this layer's group, or lengthen its warm-up.",
    ),
    "underflow": KindText(
        "Gradients lie below the range of their number format.",
        "Use a GradScaler, a larger scale, or bfloat16.",
    ),
    "dead_units": KindText(
        "Most units of an activation put out nothing.",
        "Lower the learning rate; use another initialisation, or an activation with a slope below zero.",
    ),
    "saturated_units": KindText(
        "Most elements of an activation are at a flat end of their function.",
        "Normalise what goes into it, or scale its weights down.",
    ),
    "loss_spike": KindText(
        "The loss was far outside of its usual range for a step.",
        "Look at the batch of that step: its values, its labels, its length.",
    ),
    "loss_diverging": KindText(
        "The loss has risen far above its highest level and stays there.",
        "Go back to a checkpoint from before; lower the learning rate or clip gradients.",
    ),
    "device_sync": KindText(
        "A step waits for the device more often than the budget allows.",
        "Read values less often, or name the line in allow_syncs.",
        _SYNCS,
        waits=True,
    ),
    "device_sync_storm": KindText(
        "A line of the training loop waits for the device again and again.",
        "Keep its values on the device and read them together, every so many steps.",
        _SYNCS,
        waits=True,
    ),
    "recompilation": KindText(
        "Compiled code was compiled again.",
        "See the reason in the event, and mark what varies as dynamic.",
        _RECOMPILATIONS,
        "frame",
    ),
    "recompile_storm": KindText(
        "Compiled code is compiled again and again.",
        "Compile with dynamic=True or pad batches to few shapes; after 8 times torch.compile gives the frame up.",
        _RECOMPILATIONS,
        "frame",
        waits=True,
    ),
    "graph_break": KindText(
        "A line makes torch.compile leave the graph.",
        "Take the line out of the compiled function, or write it in tensors.",
        _BREAKS,
    ),
    "compile_fallback": KindText(
        "Code that was to be compiled runs eager.",
        "See the reason in the event: the recompile limit, a failed backend, or CUDA graphs that were skipped.",
        _FALLBACKS,
        "frame",
    ),
    "input_bound": KindText(
        "The training loop waits for its data most of the time.",
        "Give the DataLoader more workers, prefetch, and move the costly transforms out of the loop.",
    ),
    "memory_creep": KindText(
        "The training process grows with every step.",
        "Look for tensors with a graph that are kept: losses in a list, hooks that store outputs.",
    ),
    "hook_leak": KindText(
        "Hooks pile up, or keep the graphs of past steps.",
        "Register the hook once, in front of the loop, or remove() its handle; store detached tensors.",
    ),
    "hook_never_fires": KindText(
        "A hook never runs though its module trains.",
        "Call the module and not its forward, and register hooks before compiling.",
    ),
    "nondeterministic_op": KindText(
        "An operator without a deterministic implementation ran although determinism was asked for.",
        "Replace the operator, or accept that two runs differ.",
        _NONDETERMINISTIC,
    ),
    "inplace_conflict": KindText(
        "A write in place hits what backward needs.",
        "Use the form of the operation that is not in place, at the line that the event names.",
        _CONFLICTS,
    ),
    "inplace_corruption": KindText(
        "A write in place that PyTorch does not notice makes gradients wrong.",
        "Stop the run: what it has learnt since is of wrong gradients. The event names both lines.",
        _CONFLICTS,
    ),
    "probe_disabled": KindText(
        "A part of loopscope has switched itself off after faults.",
        "Training is not harmed. Report the first traceback in the log of loopscope.",
    ),
}
"""Texts by kind. Kinds that the catalog does not have (yet) are not alerted on."""
