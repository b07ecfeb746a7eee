"""Activations: which units are dead, which saturate; for those who ask for it by attach(activations=True)."""

from __future__ import annotations

from .boards import Links, board
from .layout import Band, Row
from .native import Json
from .panels import lines
from .queries import grouped, held, selected
from .settings import RuleSettings

__all__ = ["activations"]


def activations(settings: RuleSettings, grafana: str) -> Json:
    """Return the dashboard."""
    links = Links(settings.runbook_base_url)
    return board(
        name="activations",
        title="Activations",
        description="Which units are dead and which saturate, on sampled steps. Nobody looks unless "
        "attach(activations=True) asks for it.",
        rows=(
            Row(
                "Activations at the latest sampled step",
                (Band(10, (_dead_units(links), _saturated_units(links))), Band(10, (_activation_sizes(),))),
            ),
        ),
        grafana=grafana,
        has_one_agent=True,
        opted_in="loopscope.activation.root_mean_square",
    )


def _dead_units(links: Links) -> Json:
    return _of_activations(
        "Dead units",
        "Share of units that have put out nothing for any sample.",
        "loopscope.activation.dead_ratio",
        links.to("dead_units"),
    )


def _saturated_units(links: Links) -> Json:
    return _of_activations(
        "Saturated elements",
        "Share of what activations put out that lies at a flat end of their function, where no gradient passes.",
        "loopscope.activation.saturated_ratio",
        links.to("saturated_units"),
    )


def _activation_sizes() -> Json:
    return _of_activations(
        "Size of activations",
        "Root mean square of what the activations put out at the last sampled step.",
        "loopscope.activation.root_mean_square",
        [],
        unit="none",
    )


def _of_activations(title: str, description: str, name: str, links: list[Json], unit: str = "percentunit") -> Json:
    return lines(
        title,
        description,
        held(grouped("max", "activation", selected(name)), "{{activation}}"),
        unit=unit,
        empty="Nothing was looked at: attach(activations=True) asks for it, and the model needs such activations.",
        legend=("lastNotNull",),
        defaults={"max": 1} if unit == "percentunit" else {},
        links=links,
    )
