"""What an audit of the hooks on a model found: facts, which a detector judges."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HookCount", "HookSilence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCount:
    """Hooks of one function at one place, or what such a hook has collected; noted where it has become more."""

    where: str
    """Module path or name of the parameter that it is on; `optimizer`, or `global` for those of every module."""
    hook_kind: str
    """`forward`, `forward_pre`, `backward`, `backward_pre`, `state_dict`, `tensor`, `post_accumulate`, `step`, ..."""
    site: str
    """Line of the hook's function."""
    function: str
    """Its name."""
    count: int
    """Hooks of this function there; or, with `container`, elements collected."""
    container: str | None = None
    """Name of the list or dictionary that a hook fills with tensors that have a graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSilence:
    """A hook that did not run on steps on which it should have."""

    where: str
    hook_kind: str
    site: str
    function: str
    num_looks: int
    """Steps looked at."""
    is_trained: bool
    """Whether the module's parameters got gradients on them; otherwise only the module around it was called."""
    is_compiled: bool
    """Whether it was registered after torch.compile had compiled what runs."""
    num_silent: int = 1
    """Modules with this function on which it does not run."""
    num_running: int = 0
    """Modules with this function on which it does."""
