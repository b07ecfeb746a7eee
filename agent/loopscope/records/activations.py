"""What the activation modules of a model put out during one sampled step, columnar.

Shape legend: A calls of activation modules, in the order of the forward, G groups of modules among them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .gradients import Flags, Floats, Integers

__all__ = ["ActivationTable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationTable:
    """One row for each call of an activation module, over all micro-steps of the step; unknown is NaN.

    A module that is called several times in a forward has a row a call, `relu[0]`, `relu[1]`, and so on. A unit is a
    feature, or a channel of a convolution. What is called as a function (`torch.relu`) or runs in compiled code is not
    in the table.
    """

    names: tuple[str, ...]
    modules: tuple[str, ...]
    """[A] module path of each row."""
    types: tuple[str, ...]
    """[A] class of each module."""
    layers: tuple[str, ...]
    """Groups of module paths, 16 at the most."""
    layer_index_A: Integers
    """Index into `layers` of each row."""
    num_units_A: Integers
    num_rows_A: Integers
    """Samples times positions that each unit was seen at."""
    dead_ratio_A: Floats
    """Share of units that put out nothing for any sample and position of this step, of activations that cut to zero."""
    lasting_dead_ratio_A: Floats
    """Share of units that put out nothing on this and the sampled steps before it, over 128 rows at the least."""
    saturated_ratio_A: Floats
    """Share of elements at a flat end, where the slope is below 1 % of its largest; NaN where there is no such end."""
    norms_A: Floats
    """L2 norm of all elements."""
    mean_squares_A: Floats
    is_output_A: Flags
    """Whether the row is what the model itself puts out."""
    num_unseen: int = 0
    """Activation modules that were not called, or only in compiled code."""
    num_functional: int | None = None
    """Activations of the first sampled step that are function calls, as autograd has them; None where not known."""
    num_left_out: int = 0
    """Calls beyond the bound on rows."""
