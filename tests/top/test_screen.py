"""The picture: it fits its terminal, cuts no number, obeys nothing that comes from a run, and bears any answer."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from rich.cells import cell_len
from tests.builders import event, gradient_table, run_info, step_report
from tests.top.states import answer, picture, sick_run, state

from loopscope.top.client import Failure
from loopscope.top.health import Link
from loopscope.top.room import Scroll
from loopscope.top.state import merge

SIZES = [(80, 24), (60, 15), (120, 40), (200, 60), (61, 17), (40, 12), (20, 5), (8, 2), (1, 1)]
EVIL = "\x1b]0;owned\x07\x1b[2J[bold red]層.[/nothing]\r\n\u202eabc\x9b"


@pytest.fixture(scope="module")
def sick() -> Any:
    """What is known of a run that has gone wrong."""
    return state(*sick_run())


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("is_unicode", [True, False])
@pytest.mark.parametrize("failure", [None, Failure("gone", "")])
def test_picture_fits(sick: Any, width: int, height: int, is_unicode: bool, failure: Failure | None) -> None:
    """No line is wider than the terminal, and there are no more than it has; without Unicode all is ASCII."""
    lines = picture(sick, width, height, is_unicode=is_unicode, link=Link(failure=failure, silent_seconds=12.0))

    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width
    assert is_unicode or "".join(lines).isascii()


@pytest.mark.parametrize(("width", "height"), SIZES[:4])
def test_what_matters_is_there_at_every_usual_size(sick: Any, width: int, height: int) -> None:
    """How it is, the first cause with its remedy, the worst layer with its state: also in 60 by 15."""
    text = "\n".join(picture(sick, width, height))

    assert " CRITICAL  2 anomalies open" in text
    assert "critical nonfinite_gradient at head, since step 20, first cause of nonfinite_loss"[:50] in text
    assert "→ Lower the learning rate." in text
    assert re.search(r"^head +nonfinite .*NaN", text, re.MULTILINE)


@pytest.mark.parametrize(("width", "height"), SIZES[:4])
def test_numbers_are_never_cut(width: int, height: int) -> None:
    """Whatever has its mark of a cut is no number: the longest that there are stand in full, or not at all."""
    table = gradient_table((1.2345e-150, 1.2345e-150, 9.8765e150, 9.8765e150), layers=("a" * 90, "b" * 90))
    lines = picture(
        state(run_info(), *(step_report(n, loss=-1.2345e-300, gradients=table) for n in range(99))), width, height
    )

    assert not [line for line in lines if re.search(r"\d…|…[\d.]", line)]
    assert any("-1.23e-300" in line for line in lines)
    assert any(" 1.75e-150 " in line for line in lines)


def test_columns_are_aligned(sick: Any) -> None:
    """Numbers of a table end below each other and below their header."""
    lines = picture(sick, 120, 40)

    header = next(line for line in lines if line.startswith("layer "))
    ends = {
        match.end()
        for line in (header, *lines[lines.index(header) + 1 :][:2])
        for match in [re.match(r".*?(norm|NaN|10)\b", line)]
        if match
    }
    assert len(ends) == 1


def test_what_comes_from_the_run_is_only_text() -> None:
    """Controls are shown and not obeyed, nothing is taken for markup, wide characters count as two."""
    table = gradient_table(layers=(EVIL, "層" * 60))
    known = state(
        run_info(run=EVIL, model=EVIL, host=EVIL),
        step_report(gradients=table),
        event(layer=EVIL, message=EVIL, remedy=EVIL),
    )

    lines = picture(known, 80, 40)

    assert all(line.isprintable() for line in lines)
    assert max(cell_len(line) for line in lines) <= 80
    assert any(r"\x1b[2J[bold red]層.[/nothing]\r\n" in line for line in lines)


def test_layers_scroll() -> None:
    """As far as there are any and no further, and back at once."""
    names = [f"layer{number}" for number in range(40)]
    known = state(run_info(), step_report(gradients=gradient_table([1.0] * 40, layers=names)))
    scroll = Scroll()
    top = picture(known, scroll=scroll)
    scroll.first += 1_000
    bottom = picture(known, scroll=scroll)
    scroll.first -= 1

    assert any(line.startswith("layer0 ") for line in top)
    assert any(line.startswith("layer39 ") for line in bottom)
    assert not any(line.startswith("layer39 ") for line in picture(known, scroll=scroll))
    assert re.search(r"^1-\d+ of 40 layers", "\n".join(top), re.MULTILINE)


def test_layers_with_long_names_are_told_apart() -> None:
    """A name that is too long is shortened where all are the same."""
    names = [f"transformer.encoder.layers.{number}.self_attention.out_proj" for number in range(9)]
    known = state(run_info(), step_report(gradients=gradient_table([1.0] * 9, layers=names)))

    rows = [line.split()[0] for line in picture(known, 60, 40) if " healthy " in line]

    assert len(set(rows)) == len(rows) == 9


def test_printed_picture_is_as_high_as_it_has_to_be(sick: Any) -> None:
    """Nothing is left out for want of room, and no blank line stands at the end."""
    lines = picture(sick, 100, None, footer="")

    assert {"encoder", "head"} <= {line.split()[0] for line in lines if line}
    assert lines[-1].strip()
    assert any("src/metrics.py:7" in line for line in lines)


def test_before_the_first_step_there_is_a_picture() -> None:
    """Of what is known by then."""
    lines = picture(state(run_info()))

    assert lines[0].startswith("model · run-1")
    assert lines[1].startswith(" STARTING ")


def _broken(value: Any, by: Any) -> Iterator[Any]:
    """Every answer in which one part, a row or a cell included, is another value."""
    if isinstance(value, dict):
        for key in value:
            yield value | {key: by}
            yield {name: part for name, part in value.items() if name != key}
            yield from (value | {key: each} for each in _broken(value[key], by))
    elif isinstance(value, list) and value:
        yield [by, *value[1:]]
        yield from ([each, *value[1:]] for each in _broken(value[0], by))


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """An answer with everything in it."""
    return answer(*sick_run(num_steps=3))


@pytest.mark.parametrize("by", [None, "text", -1, [{}], math.inf])
def test_any_answer_is_borne(whole: dict[str, Any], by: Any) -> None:
    """A field that is missing or of another type costs what it says, and nothing else."""
    before = copy.deepcopy(whole)
    num = 0
    for each in _broken(whole, by):
        if isinstance(each.get("agent"), str):
            known = merge(None, each)
            assert known is not None
            assert picture(known, 100, 40)[0].startswith(("model", "text"))
            merge(known, whole)
            num += 1
    assert num > 300
    assert whole == before
