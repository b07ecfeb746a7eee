"""Every hook and patch that an agent owns; installs, removes in reverse order, never leaks.

Wrappers have the form that dynamo tolerates: `functools.wraps`, an `is_compiling` branch that calls the original, and
`skip_code`, so that graphs, breaks and recompiles are those of the unpatched function.
"""

from __future__ import annotations

from .compilations import CompileStart, has_compiled_code, num_compiled
from .hookset import HookSet
from .modules import ModuleHook
from .patches import Finish, Observer, num_patches, num_wrapper_frames, out_of_dynamo
from .replacements import num_replacements

__all__ = [
    "CompileStart",
    "Finish",
    "HookSet",
    "ModuleHook",
    "Observer",
    "has_compiled_code",
    "num_compiled",
    "num_patches",
    "num_replacements",
    "num_wrapper_frames",
    "out_of_dynamo",
]
