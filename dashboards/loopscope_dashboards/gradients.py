"""Gradient health: which layer is ill, since when, and what it did to the whole gradient."""

from __future__ import annotations

from loopscope.catalog import EPOCH_STATISTICS, HEALTH_STATES

from .boards import Links, board
from .colors import DECADES, GOOD, NEUTRAL, SERIOUS, STATES, steps
from .incidents import incident_table
from .layers import LAYER, NAME, NO_GRADIENT, max_abs, norms, update_ratios, weight_norms, zero_ratios
from .layout import Band, Row
from .magnitudes import loss_scale, magnitudes, underflow
from .native import Json
from .norms import global_norm, global_norms, layer_norm
from .panels import column, grid, lines, override, states
from .queries import grouped, held, latest, or_none, selected, table
from .settings import RuleSettings

__all__ = ["gradients"]


def gradients(settings: RuleSettings, grafana: str) -> Json:
    """Return the dashboard."""
    links = Links(settings.runbook_base_url)
    return board(
        name="gradients",
        title="Gradient health",
        description="Which layer is ill, since when, and what came first. Of one agent, as layers belong to one; where "
        "several runs are chosen, the worst or largest of them is shown.",
        rows=(
            Row("Layers over time", (Band(9, (_health(links),)), Band(10, (_heatmap(),)))),
            Row("What went wrong", (Band(7, (incident_table(links),)),)),
            Row("Layers now, and over the last epoch", (Band(11, (_layer_table(),)),)),
            Row("The whole gradient", (Band(9, (_global_norm(links), _clip_ratio(), _nonfinite(links))),)),
            Row(
                "Layer by layer",
                (
                    Band(10, (norms(links),)),
                    Band(9, (update_ratios(links), zero_ratios(links))),
                    Band(9, (max_abs(), weight_norms())),
                ),
            ),
            Row(
                "Magnitudes and number formats",
                (Band(9, (magnitudes(), underflow(links), loss_scale()), (12, 6, 6)),),
            ),
        ),
        grafana=grafana,
        has_one_agent=True,
    )


def _layer_state() -> str:
    """The place of each layer's state in HEALTH_STATES: a layer has 1 for its state and 0 for the others."""
    of_state = [selected("loopscope.layer.health", f'state="{state}"') for state in HEALTH_STATES]
    one_hot = " or ".join(f"{index} * {series}" for index, series in enumerate(of_state))
    return grouped("max", LAYER, f"({one_hot})")


def _health(links: Links) -> Json:
    return states(
        "Health of the layers",
        "The state of each layer as the detectors see it; of several ranks or runs the worst. Point at a region for "
        "when it began; the table of anomalies says what was found.",
        held(_layer_state(), NAME),
        mappings=STATES,
        empty=NO_GRADIENT,
        links=links.to("vanishing_gradient", "exploding_gradient", "dead_layer", "nonfinite_gradient"),
    )


def _heatmap() -> Json:
    return states(
        "Gradient norm of the layers (two colours a decade)",
        "L2 norm of each layer's gradient at the latest step at each scrape, unscaled, after clipping: cold is small, "
        "hot is large. Shards of FSDP are joined: the root of the sum of the squares of all ranks.",
        held(f"clamp(floor(2 * log10({layer_norm(LAYER)})), -20, 10)", NAME),
        mappings=DECADES,
        empty=NO_GRADIENT,
        row_height=1.0,
        data_points=300,
    )


def _layer_table() -> Json:
    statistics = [
        grouped("max", LAYER, selected("loopscope.epoch.gradient_norm", f'stat="{stat}"'))
        for stat in ("mean", "p95", "max")
        if stat in EPOCH_STATISTICS
    ]
    sampled = [
        grouped("max", LAYER, selected(name))
        for name in ("loopscope.update.ratio", "loopscope.gradient.zero_ratio", "loopscope.weight.norm")
    ]
    counted = grouped("sum", LAYER, selected("loopscope.gradient.nonfinite"))
    values = (_layer_state(), layer_norm(LAYER), *statistics, *sampled, counted)
    return grid(
        "Layers",
        "State and norm at the latest step; mean, 95 % quantile and maximum of the norm over all steps of the last "
        "complete epoch; what sampled steps said last. A blank cell is not known: epochs of FSDP shards, no sample "
        "yet.",
        *(table(latest(value)) for value in values),
        columns=(
            column("layer", "Layer"),
            column("optimizer", "Optimizer"),
            column("Value #A", "State", mappings=STATES, width=110),
            column("Value #B", "Norm", unit="none"),
            column("Value #C", "Epoch mean", unit="none"),
            column("Value #D", "Epoch p95", unit="none"),
            column("Value #E", "Epoch max", unit="none"),
            column("Value #F", "Update / weight", unit="percentunit"),
            column("Value #G", "Zeros", unit="percentunit", decimals=1),
            column("Value #H", "Weight norm", unit="none"),
            column("Value #I", "Not finite", unit="short", thresholds=steps((None, GOOD), (1, SERIOUS)), decimals=0),
        ),
        order=("layer", "optimizer", *(f"Value #{ref}" for ref in "ABCDEFGHI")),
        sort=("State", True),
        empty=NO_GRADIENT,
    )


def _global_norm(links: Links) -> Json:
    return lines(
        "Norm before and after clipping",
        "L2 norm of all gradients at the latest step at each scrape. Before clipping is there where the loop clips "
        "with torch.nn.utils.clip_grad_norm_.",
        held(global_norms("optimizer"), "{{stage}} {{optimizer}}"),
        unit="sishort",
        empty=NO_GRADIENT,
        is_log=True,
        legend=("lastNotNull", "max"),
        links=links.to("exploding_gradient", "gradient_spike"),
    )


def _clip_ratio() -> Json:
    before = grouped("max", "optimizer", selected("loopscope.gradient.global_norm", 'stage="pre_clip"'))
    after = global_norm("optimizer")
    return lines(
        "What clipping leaves of the gradient",
        "Norm after clipping over norm before it at the latest step at each scrape: 100 % is a step that was not "
        "clipped, also where the loop does not clip. Far below 100 % all the time, the bound of clipping decides how "
        "far a step goes.",
        held(f"{after} / {before} or 0 * {after} + 1", "left over {{optimizer}}"),
        unit="percentunit",
        empty=NO_GRADIENT,
        legend=("lastNotNull", "min"),
        defaults={"max": 1, "custom": {"fillOpacity": 10}},
        overrides=(override("byRegexp", "/^left over/", {"color": {"fixedColor": NEUTRAL, "mode": "fixed"}}),),
    )


def _nonfinite(links: Links) -> Json:
    counts = grouped("sum", LAYER, selected("loopscope.gradient.nonfinite"))
    return lines(
        "NaN and infinite elements, since attach",
        "Gradient elements that were NaN or infinite, counted from attach on, steps that were skipped for them "
        "included. Layers without any are left out.",
        held(or_none(f"({counts} > 0)", "layer", known_by="loopscope.gradient.nonfinite"), NAME),
        unit="short",
        empty=NO_GRADIENT,
        is_stepped=True,
        legend=("lastNotNull",),
        links=links.to("nonfinite_gradient"),
    )
