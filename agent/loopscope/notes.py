"""What probes note on the training side, of syncs, compilations and writes in place: facts, for the worker to judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .records import HookCount, HookSilence, NonfiniteOrigin, SyncCount

__all__ = ["AllocatorNote", "CompileNote", "InplaceNote", "NondeterminismNote", "Note", "PauseNote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorNote:
    """How often the CUDA caching allocator did what makes it wait for the device, since the note before."""

    event: str
    """One of `catalog.ALLOCATOR_EVENTS`."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseNote:
    """What the garbage collector took since the note before."""

    seconds: float
    generation: int
    """The oldest generation that it went through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NondeterminismNote:
    """An operator without a deterministic implementation, as PyTorch's warning names it."""

    operator: str
    site: str
    is_other_thread: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileNote:
    """One thing that torch.compile did, as its own records tell it; what it means is for the worker to say."""

    kind: Literal["frame", "backward", "break", "limit", "failure", "cudagraph_skip", "cudagraph_recording", "lost"]
    """A frame was compiled, a backward graph was; dynamo left the graph; a frame hit the recompile limit; a failure was
    suppressed; a CUDA graph was given up, was recorded; graphs that were compiled but never seen."""
    compile_id: str | None = None
    """As dynamo counts: `frame/variant`."""
    frame: str | None = None
    """`name (file.py:line)`."""
    site: str | None = None
    """The user's line: where the frame begins, or which line called it if it is not the user's."""
    called_from: str | None = None
    location: str = ""
    """`file:line` of a break itself, which may be inside a package."""
    text: str = ""
    """What dynamo says of a break or a failure."""
    reasons: tuple[str, ...] = ()
    """Guards that failed, one for each variant that was there, the newest first; empty for a first compilation."""
    variants: int | None = None
    """Variants of the frame, this one included."""
    seconds: float = 0.0
    count: int = 1
    is_code: bool = True
    """Whether compiled code came of it."""
    is_graph: bool = True
    """Whether a graph came of it: a frame without an operator on tensors has none."""
    is_resumed: bool = False
    """Whether it is the rest of a function behind a break."""
    is_training_switched: bool = False
    """Whether modules were switched from train to eval or back, as far as the guards tell."""
    type_now: str | None = None
    """What came where a variant before had a value compiled in."""
    skips_frame: bool = False
    """Whether the whole function runs eager because of the break."""
    is_without_cuda: bool = False
    """Whether the machine has no CUDA device, so that there are no CUDA graphs at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InplaceNote:
    """A write in place to what autograd needs: who wrote, who had saved, and what that comes to, in words."""

    kind: Literal["inplace_conflict", "inplace_corruption"]
    severity: Literal["info", "warning", "critical"]
    cause: str
    """How it came to matter: `raised`, `unchecked`, ... (`probes.inplace.incidents.Cause`)."""
    message: str
    """A sentence without its full stop."""
    remedy: str
    """The same."""
    site: str | None
    operator: str
    culprit_text: str = ""
    """The user's source line that wrote."""
    saved_site: str | None = None
    saved_operator: str | None = None
    saved_text: str = ""
    library: str | None = None
    """The line inside PyTorch that wrote, where an optimizer or a module did: `torch/optim/adam.py:546`."""
    region: str | None = None
    """`checkpoint`, `save_on_cpu` or `saved_tensors_hooks`, under which PyTorch checks nothing."""


Note: TypeAlias = (
    SyncCount
    | NonfiniteOrigin
    | HookCount
    | HookSilence
    | AllocatorNote
    | PauseNote
    | NondeterminismNote
    | CompileNote
    | InplaceNote
)
