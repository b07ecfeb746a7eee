"""Every kind of event."""

from __future__ import annotations

from .families import EventKind

__all__ = ["EVENT_KINDS"]

EVENT_KINDS: tuple[EventKind, ...] = (
    EventKind(name="nonfinite_gradient", severity="critical", help="A layer's gradient became NaN or infinite."),
    EventKind(name="nonfinite_loss", severity="critical", help="The loss became NaN or infinite."),
    EventKind(
        name="exploding_gradient",
        severity="warning",
        help="A layer's or the whole gradient's norm left its own range upwards, and stays or "
        "grows; `critical` from 10,000 times.",
    ),
    EventKind(
        name="gradient_spike",
        severity="warning",
        help="The gradient's norm was far outside of its usual range for one step; `info` where clipping contained it.",
    ),
    EventKind(
        name="accumulating_gradient",
        severity="warning",
        help="The gradient's norm grows linearly from the first step on, as if zero_grad were forgotten.",
    ),
    EventKind(
        name="vanishing_gradient",
        severity="warning",
        help="Layers get a gradient far below that of the layers behind them, for many steps.",
    ),
    EventKind(
        name="dead_layer",
        severity="warning",
        help="A module has no gradient, or one of exactly zero, for many steps while others train.",
    ),
    EventKind(
        name="frozen_layer",
        severity="warning",
        help="A layer's weights do not change though it has a gradient; `info` for parameters "
        "of the optimizer with requires_grad False.",
    ),
    EventKind(
        name="zero_learning_rate",
        severity="warning",
        help="The learning rate of every parameter group has been 0 for many steps.",
    ),
    EventKind(
        name="update_ratio",
        severity="warning",
        help="The update is out of proportion to the weights; `info` where it is too small.",
    ),
    EventKind(name="underflow", severity="warning", help="Gradients lie below the range of their number format."),
    EventKind(
        name="dead_units",
        severity="warning",
        help="Most units of an activation put out nothing for any sample, on several sampled steps.",
    ),
    EventKind(
        name="saturated_units",
        severity="warning",
        help="Most of what an activation puts out lies at a flat end of its function, on several sampled steps; "
        "`info` where the loss has fallen to a tenth.",
    ),
    EventKind(name="loss_spike", severity="warning", help="The loss was far outside of its usual range for one step."),
    EventKind(
        name="loss_diverging",
        severity="warning",
        help="The loss rose far above its highest level, and stays or grows.",
    ),
    EventKind(name="loss_plateau", severity="info", help="The loss has not fallen for hundreds of steps."),
    EventKind(
        name="device_sync_storm",
        severity="warning",
        help="A line waits for the device on most steps, many times or for long.",
    ),
    EventKind(
        name="recompile_storm",
        severity="warning",
        help="Compiled code was compiled again many times within few steps.",
    ),
    EventKind(
        name="hook_leak",
        severity="warning",
        help="Hooks pile up on a module, a parameter or an optimizer, or a hook keeps the graphs of all steps.",
    ),
    EventKind(
        name="hook_never_fires",
        severity="warning",
        help="A hook does not run: its module is not called though it trains, or was compiled before the hook came; "
        "`info` where it runs on other modules.",
    ),
    EventKind(name="input_bound", severity="warning", help="The loop waits for its data most of the time."),
    EventKind(
        name="memory_creep",
        severity="warning",
        help="The process grows with every step, as if something were kept.",
    ),
    EventKind(
        name="step_time_outlier",
        severity="info",
        help="A step took far longer than those around it; the attributes say what happened in it.",
    ),
    EventKind(
        name="device_sync",
        severity="info",
        help="The host waited for the device: once a kind and line, and "
        "`warning` where a step waits more often than `sync_budget` allows.",
    ),
    EventKind(name="compilation", severity="info", help="A frame was compiled by torch.compile for the first time."),
    EventKind(
        name="recompilation",
        severity="warning",
        help="A frame was compiled again by torch.compile, as something "
        "had changed; `info` where that is to be expected (one variant for train and one for eval).",
    ),
    EventKind(
        name="graph_break",
        severity="warning",
        help="A line at which torch.compile left the graph; `info` where "
        "that is to be expected (the compiled step of an optimizer) or was asked for (`torch.compiler.disable`).",
    ),
    EventKind(
        name="compile_fallback",
        severity="warning",
        help="A compiled frame, or a part of it, runs eager since: "
        "the recompile limit, a failed backend, a CUDA graph that could not be recorded.",
    ),
    EventKind(
        name="nondeterministic_op",
        severity="warning",
        help="An operator without a deterministic implementation ran although determinism was asked for.",
    ),
    EventKind(
        name="inplace_conflict",
        severity="critical",
        help="A write in place to what autograd had saved, with both lines: backward raises; `warning` where it is "
        "going to, `info` where a hook modified its gradient and nobody else used it.",
    ),
    EventKind(
        name="inplace_corruption",
        severity="critical",
        help="A write in place that PyTorch does not notice: gradients are wrong without an error; `warning` where "
        "the recomputation of a checkpointed region changed a buffer once more.",
    ),
    EventKind(
        name="probe_disabled",
        severity="warning",
        help="A part of loopscope failed too often and switched itself off; training goes on.",
    ),
)
