"""What torch.compile does: what is compiled again and why, where graphs break, what runs eager."""

from __future__ import annotations

from .boards import Links
from .colors import WARNING
from .native import Json
from .panels import column, grid, lines, paint
from .queries import grouped, held, latest, of_run, or_none, rate, selected, table, total

__all__ = ["break_table", "compilations", "compile_time", "fallback_table", "recompilation_table"]

_NO_AGENT = "No agent was scraped in this time range."


def recompilation_table(links: Links) -> Json:
    """Return which frames were compiled again, and why."""
    return _count_table(
        "Recompilations by frame and reason",
        "Compilations of a frame that was compiled before, by what had changed, since attach.",
        "loopscope.recompilations",
        ("frame", "Frame"),
        ("reason", "What changed"),
        links=links.to("recompilation", "recompile_storm"),
    )


def break_table(links: Links) -> Json:
    """Return at which lines graphs break, and why."""
    return _count_table(
        "Graph breaks by line and reason",
        "Lines at which torch.compile left the graph and went on in Python, since attach.",
        "loopscope.graph_breaks",
        ("site", "Line"),
        ("reason", "Reason"),
        links=links.to("graph_break"),
    )


def fallback_table(links: Links) -> Json:
    """Return which frames run eager since."""
    return _count_table(
        "Frames that run eager",
        "Frames that torch.compile gave up: the recompile limit was hit, or the backend failed and errors are "
        "suppressed.",
        "loopscope.compile_fallbacks",
        ("frame", "Frame"),
        links=links.to("compile_fallback"),
    )


def compilations() -> Json:
    """Return how many graphs were compiled."""
    again, breaks = (
        or_none(of_run(selected(name)), label, known_by="loopscope.compilations")
        for name, label in (("loopscope.recompilations", "frame"), ("loopscope.graph_breaks", "site"))
    )
    return lines(
        "Graphs compiled, since attach",
        "Every step up is a compilation. After the first minutes the lines should be flat.",
        held(total(selected("loopscope.compilations")), "forward graphs"),
        held(total(selected("loopscope.backward_compilations")), "backward graphs"),
        held(f"sum ({again})", "of these, recompilations"),
        held(f"sum ({breaks})", "graph breaks"),
        held(total(selected("loopscope.cudagraph_skips")), "CUDA graphs skipped"),
        unit="short",
        empty=_NO_AGENT,
        is_stepped=True,
        legend=("lastNotNull",),
        overrides=(paint("of these, recompilations", WARNING), paint("graph breaks", "yellow")),
    )


def compile_time() -> Json:
    """Return how much of the time compiling takes."""
    return lines(
        "Share of the time spent compiling",
        "Seconds that torch.compile took for each second of the clock, of all chosen processes together.",
        held(total(rate("loopscope.compile")), "compiling"),
        unit="percentunit",
        empty=_NO_AGENT,
        legend=("max",),
        defaults={"custom": {"fillOpacity": 20}},
        least_top=0.01,
        overrides=(paint("compiling", WARNING),),
    )


def _count_table(title: str, description: str, name: str, *labels: tuple[str, str], links: list[Json]) -> Json:
    counts = grouped("sum", ", ".join(label for label, _ in labels), selected(name))
    return grid(
        title,
        description,
        table(or_none(latest(counts), labels[0][0], known_by="loopscope.compilations")),
        columns=(
            *(column(label, shown) for label, shown in labels),
            column("Value", "Count", unit="none", decimals=0, width=80),
        ),
        order=(*(label for label, _ in labels), "Value"),
        sort=("Count", True),
        empty=_NO_AGENT,
        links=links,
    )
