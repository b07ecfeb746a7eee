"""Sites: which line of the user's code something came from, as `path/file.py:line`."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from enum import IntEnum
from pathlib import Path
from types import FrameType

__all__ = ["Origin", "is_ours", "origin_of", "site_of", "user_frame"]


class Origin(IntEnum):
    """Whose source file it is; the user's frames are looked for first, then those of installed packages."""

    USER = 0
    PACKAGE = 1
    """An installed package: the training loop itself may be one."""
    LIBRARY = 2
    """PyTorch or the standard library."""
    OURS = 3


_PACKAGE = Path(__file__).resolve().parent
_OURS = str(_PACKAGE) + os.sep
_WRAPPERS = (
    *(str(_PACKAGE / folder) + os.sep for folder in ("hooks", f"probes{os.sep}syncs", f"probes{os.sep}inplace")),
    str(_PACKAGE / "probes" / "operators.py"),
)
"""Our wrappers around PyTorch's functions stand between the user and PyTorch, and are as good as PyTorch's."""
_READERS = str(_PACKAGE / "probes" / "inplace" / "evidence.py")
"""What reads tensors for itself among them."""
_COMMANDS = str(_PACKAGE / "cli") + os.sep
"""The demo is a training script like any other."""
_GENERATED = ("<frozen ", "<eval_with_key>", "<torch_package", "<__array_function__", "<attrs generated ")
_OF_DATACLASSES = "__create_fn__."
"""Their generated methods have the file name of any code that is executed as text."""
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_origins: dict[str, Origin] = {}
_shown: dict[tuple[str, str], str] = {}
_MAX_REMEMBERED = 10_000
"""Notebook cells and generated code have a file name each."""


def _libraries() -> tuple[str, ...]:
    found = importlib.util.find_spec("torch")  # does not import it
    paths = [path for name in ("stdlib", "platstdlib") if (path := sysconfig.get_path(name))]
    if found is not None and found.submodule_search_locations:
        paths += found.submodule_search_locations
    return tuple(str(path) + os.sep for path in paths)


_LIBRARIES = _libraries()


def origin_of(filename: str) -> Origin:
    """Return whose file a code object's `co_filename` is."""
    origin = _origins.get(filename)
    if origin is None:
        if len(_origins) >= _MAX_REMEMBERED:
            _origins.clear()
        origin = _origins[filename] = _classify(filename)
    return origin


def _classify(filename: str) -> Origin:
    if filename.startswith("<"):
        return Origin.LIBRARY if filename.startswith(_GENERATED) else Origin.USER
    if filename.startswith(_OURS):
        if filename.startswith(_COMMANDS):
            return Origin.USER
        return Origin.LIBRARY if filename.startswith(_WRAPPERS) and filename != _READERS else Origin.OURS
    if filename.startswith(_LIBRARIES) and not any(part in filename for part in _INSTALLED):
        return Origin.LIBRARY
    if filename.startswith(_LIBRARIES[2:]):
        return Origin.LIBRARY  # PyTorch, which is installed itself
    return Origin.PACKAGE if any(part in filename for part in _INSTALLED) else Origin.USER


def user_frame(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of the user's from `frame` outwards, else of an installed package, else None.

    None as well where the innermost frame outside PyTorch is ours: what we do ourselves is nobody's line.
    """
    fallback = None
    while frame is not None:
        origin = origin_of(frame.f_code.co_filename)
        if origin is Origin.USER and frame.f_code.co_qualname.startswith(_OF_DATACLASSES):
            origin = Origin.LIBRARY
        if origin is Origin.USER:
            return frame
        if origin is Origin.OURS and fallback is None:
            return None
        if origin is Origin.PACKAGE and fallback is None:
            fallback = frame
        frame = frame.f_back
    return fallback


def is_ours(frame: FrameType | None) -> bool:
    """Whether the innermost frame outside PyTorch and the standard library is ours."""
    while frame is not None and origin_of(frame.f_code.co_filename) is Origin.LIBRARY:
        frame = frame.f_back
    return frame is not None and origin_of(frame.f_code.co_filename) is Origin.OURS


def site_of(filename: str, line: int) -> str:
    """Return `path/file.py:line`, the path relative to the current directory where the file lies under it."""
    return f"{_path(filename)}:{line}"


def _path(filename: str) -> str:
    if filename.startswith("<"):
        return filename
    here = os.getcwd()  # noqa: PTH109 - the path as text, a thousand times a second at worst
    shown = _shown.get((here, filename))
    if shown is None:
        if len(_shown) >= _MAX_REMEMBERED:
            _shown.clear()
        prefix = here.rstrip(os.sep) + os.sep
        full = filename if os.path.isabs(filename) else os.path.join(here, filename)  # noqa: PTH117, PTH118
        full = os.path.normpath(full)
        shown = _shown[here, filename] = full.removeprefix(prefix)
    return shown
