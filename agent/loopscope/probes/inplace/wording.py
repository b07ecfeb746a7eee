"""Wording: from an incident to the note that the event, the metric and the exception's note share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from ...notes import InplaceNote
from .incidents import Cause, Incident
from .places import Place, text_of
from .remedies import remedy

__all__ = ["note_of", "unseen_text"]

_MAX_SAVERS = 3
_UNKNOWN = "a line that loopscope has not seen"
_Kind: TypeAlias = tuple[Literal["inplace_conflict", "inplace_corruption"], Literal["info", "warning", "critical"]]
_KINDS: dict[Cause, _Kind] = {
    "raised": ("inplace_conflict", "critical"),
    "predicted": ("inplace_conflict", "warning"),
    "own_hook": ("inplace_conflict", "info"),
    "repeated": ("inplace_corruption", "warning"),
}
"""What is left out is a critical corruption."""


_WRONG = "the gradients are wrong without an error"
_REGIONS = {"checkpoint": "checkpoint(use_reentrant=False)", "save_on_cpu": "save_on_cpu"}
_MESSAGES: dict[Cause, str] = {
    "raised": "{culprit} modified a tensor that {saver} had saved for backward",
    "predicted": "{culprit} modifies a tensor that {saver} has saved for backward, which will raise",
    "unchecked": "{culprit} modified a tensor that {saver} had saved for backward under {region}, where PyTorch does "
    "not check it: {wrong}",
    "bypassed": "{culprit} modified a tensor, written while saved: {saver} had saved it for backward, and PyTorch has "
    "not noticed the write: {wrong}",
    "kept": "{culprit} modified a tensor that the custom function of {saver} had kept for its backward, where PyTorch "
    "does not check it: {wrong}",
    "stale": "{culprit} modified what the checkpointed {saver} reads: its recomputation in backward reads something "
    "else than the forward did, and {wrong}",
    "repeated": "{culprit} is inside of a checkpointed region, whose recomputation in backward has changed the same "
    "buffer once more",
    "misread": "{culprit} is inside of a checkpointed region, whose recomputation in backward changed the same buffer "
    "once more, and {saver} then read it: {wrong}",
    "rescaled": "{culprit} changed the result of {saver} where autograd does not see it, and the result was used "
    "further on: the gradients are those of the value before the change",
    "hook": "{culprit} modified the gradient that a hook was given, which other branches of the graph use as well: "
    "{wrong}",
    "own_hook": "{culprit} modified the gradient that a hook was given; nothing else has used it so far",
}


def note_of(incident: Incident, *others: Incident) -> InplaceNote:
    """Return the incident in words, with its remedy; the others are the same write to what others had saved."""
    place, saved = incident.place, incident.saved_place
    library = None if place is None else place.library
    kind, severity = _KINDS.get(incident.cause, ("inplace_corruption", "critical"))
    culprit_text = text_of(place)
    return InplaceNote(
        kind=kind,
        severity=severity,
        cause=incident.cause,
        message=_message(incident, others),
        remedy=remedy(incident, culprit_text),
        site=None if place is None else place.site,
        operator=incident.operator,
        culprit_text=culprit_text,
        saved_site=None if saved is None else saved.site,
        saved_operator=incident.saved_operator,
        saved_text=text_of(saved),
        library=library,
        region=incident.region,
    )


def unseen_text(steps: int) -> str:
    """Return what to say of a failure in a step that was not armed."""
    return (
        "loopscope: the line that modified it was not seen, as this step was not watched for in-place operations. "
        f"The next {steps} steps are, if training goes on; to see the line in a new run set "
        'LOOPSCOPE_INPLACE_ARMED_STEPS to a number beyond this step, or call agent.arm("inplace") shortly before it.'
    )


def _message(incident: Incident, others: Sequence[Incident]) -> str:
    culprit = _line(incident.place, incident.operator, with_library=True)
    savers = dict.fromkeys(_line(each.saved_place, each.saved_operator) for each in (incident, *others))
    saver = " and ".join([*savers][:_MAX_SAVERS])
    if len(savers) > _MAX_SAVERS:
        saver += f" (and {len(savers) - _MAX_SAVERS} more)"
    region = _REGIONS.get(incident.region or "", "saved_tensors_hooks")
    return _MESSAGES[incident.cause].format(culprit=culprit, saver=saver, region=region, wrong=_WRONG)


def _line(place: Place | None, operator: str | None, *, with_library: bool = False) -> str:
    if place is None:
        return _UNKNOWN if operator is None else f"{_UNKNOWN} ({operator})"
    text = text_of(place)
    library = f", at {place.library}" if with_library and place.library else ""
    return f"{place.site}{f' `{text}`' if text else ''} ({operator}{library})"
