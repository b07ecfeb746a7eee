"""Laws of the remedies: the statement out of place, from its own text."""

from __future__ import annotations

import pytest

from loopscope.probes.inplace.incidents import Cause, Incident
from loopscope.probes.inplace.places import Place
from loopscope.probes.inplace.remedies import remedy, rewritten


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("h += pos", "`h = h + pos`"),
        ("x *= a + b", "`x = x * (a + b)`"),
        ("x.relu_()", "`x = x.relu()`"),
        ("y = torch.relu_(x)", "`y = torch.relu(x)`"),
        ("torch.relu_(x)", "`x = torch.relu(x)`"),
        ("kept.mul_(0.9).add_(new, alpha=0.1)", "`kept = kept.mul(0.9).add(new, alpha=0.1)`"),
        ("return F.dropout(x, 0.5, inplace=True)", "`return F.dropout(x, 0.5)`"),
        ("if F.relu(x, inplace=True).sum() > 0:", "`if F.relu(x).sum() > 0:\n    pass`"),
        ("x[x < 0] = 0.0", "`x = torch.where(x < 0, 0.0, x)`"),
        ("x[mask] = y", "`x = torch.where(mask, y, x)`"),
    ],
)
def test_known_forms_are_rewritten(text: str, better: str) -> None:
    """Augmented assignments, methods with an underscore, inplace=True and masks."""
    assert rewritten(text) == better


@pytest.mark.parametrize("text", ["", "optimizer.step()", "x = y", "not python at all (", ".exp_()", "x.zero_()"])
def test_the_rest_is_left(text: str) -> None:
    """What has no form out of place, or cannot be read, is not rewritten."""
    assert rewritten(text) is None


@pytest.mark.parametrize(
    ("library", "word"),
    [
        ("torch/optim/adam.py:546", "detach"),
        ("torch/nn/modules/activation.py:144", "inplace=False"),
        ("torch/nn/modules/batchnorm.py:190", "one forward"),
    ],
)
def test_what_pytorch_did_has_a_remedy_of_its_own(library: str, word: str) -> None:
    """An optimizer, an activation and a BatchNorm."""
    incident = Incident(cause="raised", operator="aten::add_", place=Place("train.py", 1, library))

    assert word in remedy(incident, "optimizer.step()")


@pytest.mark.parametrize("cause", ["hook", "repeated", "stale", "kept", "own_hook", "misread"])
def test_causes_that_need_no_line_have_a_remedy(cause: Cause) -> None:
    """Also where the source is not there."""
    assert remedy(Incident(cause=cause, operator="aten::mul_", place=None), "")
