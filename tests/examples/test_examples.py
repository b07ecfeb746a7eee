"""Each example runs as it is, without a warning, and what it prints of loopscope is true."""

from __future__ import annotations

import functools
import re

import pytest
from tests.python_process import ROOT, run_python

EXAMPLES = ("amp_accumulation", "ddp_gloo", "digits", "gan")


@functools.cache
def output_of(example: str) -> str:
    """Return what the example prints; it is run once."""
    return run_python("-W", "error", str(ROOT / "examples" / f"{example}.py")).stdout


def matches(example: str, pattern: str) -> list[tuple[str, ...]]:
    """Return the groups of every line that matches."""
    return [match.groups() for line in output_of(example).splitlines() if (match := re.search(pattern, line))]


def test_every_example_is_tested() -> None:
    """No example goes untested."""
    assert sorted(path.stem for path in (ROOT / "examples").glob("*.py")) == list(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_is_short(example: str) -> None:
    """An example is read on one screen."""
    assert len((ROOT / "examples" / f"{example}.py").read_text().splitlines()) <= 65


def test_digits_epochs_are_passes_over_the_training_set() -> None:
    """1,438 images in batches of 32 are 45 steps an epoch; the validation pass after each is no epoch."""
    epochs = matches("digits", r"^epoch (\d+): (\d+) steps")

    assert epochs == [(str(epoch), "45") for epoch in range(5)]


def test_digits_layers_are_those_with_parameters() -> None:
    """Every epoch has a norm above zero for both convolutions and the linear layer."""
    norms = matches("digits", r"layer 0: ([\d.]+) +layer 2: ([\d.]+) +layer 5: ([\d.]+)$")

    assert len(norms) == 5
    assert min(float(norm) for row in norms for norm in row) > 0


def test_digits_learns() -> None:
    """It is real training: nine of ten images that it has not seen are named right."""
    assert float(matches("digits", r"accuracy ([\d.]+)%")[-1][0]) > 90


def test_gan_optimizers_are_told_apart() -> None:
    """Three epochs of 50 rounds: one generator step and two critic steps a round, each under its own name."""
    steps = matches("gan", r"^epoch (\d), (\w+): (\d+) steps")

    assert sorted(steps) == [
        (str(epoch), name, count) for epoch in range(3) for name, count in (("critic", "100"), ("generator", "50"))
    ]


@pytest.mark.parametrize("network", ["critic", "generator"])
def test_gan_layers_belong_to_their_optimizer(network: str) -> None:
    """An optimizer reports the layers that it steps, and no others."""
    layers = matches("gan", rf", {network}: .*layers (.*)$")

    assert layers == [(f"{network}.0, {network}.2",)] * 3


def test_amp_every_round_is_a_step_or_skipped() -> None:
    """20 rounds of four micro-steps: steps count from 0, and a skipped one bears the number of the next."""
    rounds = matches("amp_accumulation", r"^step (\d+): (\d+) micro-steps, .*(skipped|after clipping)")
    numbers = [int(number) for number, _, what in rounds if what != "skipped"]

    assert len(rounds) == 20
    assert {num_micro_steps for _, num_micro_steps, _ in rounds} == {"4"}
    assert 0 < len(numbers) < 20
    assert numbers == list(range(len(numbers)))


def test_amp_skipped_steps_name_the_layers() -> None:
    """The first steps overflow at the scale of 2**20, each next one at half of it, and the layers are there."""
    skipped = matches("amp_accumulation", r"skipped at scale ([\d,]+): not finite in layers (.+)$")

    scales = [int(scale.replace(",", "")) for scale, _ in skipped]
    assert scales == [2**20 // 2**index for index in range(len(scales))]
    assert all(set(layers.split(", ")) <= {"0", "2", "4"} for _, layers in skipped)


def test_amp_norms_are_unscaled_and_clipped() -> None:
    """Norms are those of the gradients without the scale; after clipping none is above the limit of 10."""
    norms = [(float(a), float(b)) for a, b in matches("amp_accumulation", r"norm ([\d.]+), ([\d.]+) after clipping")]

    assert max(before for before, _ in norms) < 1_000
    assert all(after == pytest.approx(min(before, 10.0), abs=0.02) for before, after in norms)


def test_ddp_every_rank_counts_its_steps() -> None:
    """512 samples on two ranks in batches of 32, six epochs: 48 steps each, under the label of its rank."""
    ranks = matches("ddp_gloo", r'^rank (\d): loopscope_steps_total\{.*rank="(\d)".*\} ([\d.]+), epochs (\d+)')

    assert sorted(ranks) == [("0", "0", "48.0", "6"), ("1", "1", "48.0", "6")]


def test_ddp_gradients_are_reduced_and_losses_local() -> None:
    """Both ranks report the norm of the same reduced gradient, each the loss of its own batch."""
    (first_loss, first_norm), (second_loss, second_norm) = matches("ddp_gloo", r"loss ([\d.]+), gradient norm ([\d.]+)")

    assert first_norm == second_norm
    assert first_loss != second_loss
