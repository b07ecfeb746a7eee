"""Laws of the layer groups: bounded, complete, deterministic, named after the model."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import numpy as np
import pytest

from loopscope.catalog import MAX_LAYERS
from loopscope.groups import OTHER, ROOT, LayerPlan, clean_name, plan_layers

GPT = (
    "transformer.wte.weight",
    "transformer.wpe.weight",
    *(f"transformer.h.{i}.{leaf}.weight" for i in range(12) for leaf in ("ln_1", "attn.c_attn", "mlp.c_fc")),
    "transformer.ln_f.weight",
)
RESNET = (
    "conv1.weight",
    *(f"layer{stage}.{block}.conv{i}.weight" for stage in (1, 2, 3, 4) for block in (0, 1) for i in (1, 2)),
    "fc.weight",
)
MIXTURE = tuple(f"layers.{i}.experts.{j}.weight" for i in range(40) for j in range(64))
SEQUENTIAL = tuple(f"{i}.{j}.weight" for i in range(500) for j in (0, 1))
FLAT = tuple(f"block{i}.weight" for i in range(300))
DENSENET = tuple(f"features.dense{b}.layer{i}.conv{j}.weight" for b in range(4) for i in range(12) for j in (1, 2))
ODD = (
    "weight",
    "",
    ".",
    "..",
    "a..b",
    "0",
    "0.0",
    "module",
    "é.ß.w",
    "a.²",
    "x." * 500 + "w",
    "7" * 5_000 + ".w",
    OTHER,
)


def _random_names(seed: int) -> tuple[str, ...]:
    rng = random.Random(seed)
    words = ("module", "h", "layers", "0", "1", "2", "17", "03", "attn", "_orig_mod", "other", "(root)", "")
    return tuple(".".join(rng.choices(words, k=rng.randint(1, 7))) for _ in range(rng.randint(1, 400)))


MODELS = {
    "empty": (),
    "gpt": GPT,
    "resnet": RESNET,
    "mixture": MIXTURE,
    "sequential": SEQUENTIAL,
    "flat": FLAT,
    "densenet": DENSENET,
    "odd": ODD,
    "twice": GPT * 2,
    **{f"random{seed}": _random_names(seed) for seed in range(8)},
}
every_model = pytest.mark.parametrize("names", MODELS.values(), ids=MODELS.keys())
every_budget = pytest.mark.parametrize("budget", [1, 2, 3, 5, 8, 17, MAX_LAYERS])


def _members(plan: LayerPlan, layer: str) -> list[int]:
    return np.flatnonzero(plan.index_P == plan.layers.index(layer)).tolist()


@every_model
@every_budget
def test_budget_holds(names: tuple[str, ...], budget: int) -> None:
    """There are never more groups than the budget."""
    assert len(plan_layers(names, budget).layers) <= budget


@every_model
@every_budget
def test_every_parameter_has_one_group(names: tuple[str, ...], budget: int) -> None:
    """Each name gets one index, each group has a parameter, and no label is there twice."""
    plan = plan_layers(names, budget)

    assert plan.index_P.dtype == np.int64
    assert plan.index_P.shape == (len(names),)
    assert sorted(set(plan.index_P.tolist())) == list(range(len(plan.layers)))
    assert len(set(plan.layers)) == len(plan.layers)


@every_model
@every_budget
def test_groups_stand_in_the_order_of_their_first_parameter(names: tuple[str, ...], budget: int) -> None:
    """The first parameters of the groups come in the order of the groups."""
    plan = plan_layers(names, budget)

    first = [_members(plan, layer)[0] for layer in plan.layers]

    assert first == sorted(first)


@every_model
def test_labels_say_something(names: tuple[str, ...]) -> None:
    """No label is empty: Prometheus takes an empty label for one that is missing."""
    assert all(plan_layers(names).layers)


@every_model
@every_budget
def test_plan_is_deterministic(names: tuple[str, ...], budget: int) -> None:
    """The same names give the same plan."""
    one, two = plan_layers(names, budget), plan_layers(list(names), budget)

    assert one.layers == two.layers
    assert one.index_P.tolist() == two.index_P.tolist()


@every_model
def test_equal_names_share_a_group(names: tuple[str, ...]) -> None:
    """A name that comes again comes into the same group."""
    plan = plan_layers(names * 2, 8)

    assert plan.index_P[: len(names)].tolist() == plan.index_P[len(names) :].tolist()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_fsdp_wrapped_module.", "module._orig_mod.module."])
@every_model
def test_wrapping_a_model_changes_no_label(names: tuple[str, ...], prefix: str) -> None:
    """DDP, torch.compile and FSDP around the model leave the labels as they are."""
    assert plan_layers([prefix + name for name in names]).layers == plan_layers(names).layers


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("transformer.h.11.attn.c_attn.weight", "transformer.h.11"),
        ("layer1.0.conv1.weight", "layer1.0"),
        ("encoder.layers.3.experts.7.w1", "encoder.layers.3"),
        ("0.weight", "0"),
        ("conv1.weight", "conv1"),
        ("encoder.attention.query.weight", "encoder.attention.query"),
        ("weights.0", "weights"),
        ("weight", ROOT),
    ],
)
def test_group_is_the_module_path_cut_after_the_first_number(name: str, layer: str) -> None:
    """Within the budget a group is the path of the module, up to its first number."""
    assert plan_layers([name]).layers == (layer,)


def test_flat_model_keeps_its_detail() -> None:
    """Modules without numbers are groups of their own as long as the budget allows."""
    assert plan_layers(FLAT[:MAX_LAYERS]).layers == tuple(name.removesuffix(".weight") for name in FLAT[:MAX_LAYERS])


@pytest.mark.parametrize(
    ("budget", "blocks"),
    [
        (15, [f"transformer.h.{i}" for i in range(12)]),
        (14, [f"transformer.h.{i}-{i + 1}" for i in range(0, 12, 2)]),
        (6, ["transformer.h.0-3", "transformer.h.4-7", "transformer.h.8-11"]),
        (5, ["transformer.h.0-7", "transformer.h.8-11"]),
        (4, ["transformer.h.0-11"]),
    ],
)
def test_numbered_siblings_merge_by_powers_of_two(budget: int, blocks: list[str]) -> None:
    """Over the budget, neighbours share a group of 2, 4, 8, ..., named by its first and last member."""
    assert plan_layers(GPT, budget).layers == (
        "transformer.wte",
        "transformer.wpe",
        *blocks,
        "transformer.ln_f",
    )


def test_larger_family_merges_first() -> None:
    """A short list of blocks keeps its detail when a long one alone can bring the plan within the budget."""
    names = [f"encoder.{i}.weight" for i in range(4)] + [f"decoder.{i}.weight" for i in range(32)]

    assert plan_layers(names, 20).layers[:5] == (*(f"encoder.{i}" for i in range(4)), "decoder.0-1")


def test_families_take_turns() -> None:
    """After a merge the largest family is looked for again: no family is ground down while another is longer."""
    names = [f"encoder.{i}.weight" for i in range(12)] + [f"decoder.{i}.weight" for i in range(16)]

    layers = plan_layers(names, 14).layers

    assert (layers[0], layers[6]) == ("encoder.0-1", "decoder.0-1")


def test_gaps_in_the_numbers_are_no_members() -> None:
    """A range ends at parameters that exist; in a Sequential every second module may have none."""
    names = [f"{i}.weight" for i in (1, 3, 5, 8)]

    assert plan_layers(names, 3).layers == ("1-3", "5", "8")


@every_model
@every_budget
def test_merged_blocks_are_contiguous(names: tuple[str, ...], budget: int) -> None:
    """The ranges of one family do not overlap."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for layer in plan_layers(names, budget).layers:
        if match := re.fullmatch(r"(.*?)(\d+)-(\d+)", layer):
            ranges.setdefault(match[1], []).append((int(match[2]), int(match[3])))

    assert all(a[1] < b[0] for family in ranges.values() for a, b in pairwise(sorted(family)))


def test_modules_merge_into_their_parent_where_there_are_no_numbers() -> None:
    """Where no numbers help, the deepest modules are joined under their parent, as few of them as it takes."""
    names = ["stem.weight", *(f"body.{letter}.weight" for letter in "abc"), *(f"neck.{i}x.weight" for i in range(9))]

    assert plan_layers(names, 5).layers == ("stem", "body.a", "body.b", "body.c", "neck")


def test_module_without_siblings_keeps_its_path() -> None:
    """Joining it under its parent would save no group."""
    names = ["stem.conv.norm.weight", *(f"neck.{i}x.weight" for i in range(9))]

    assert plan_layers(names, 3).layers == ("stem.conv.norm", "neck")


def test_parents_take_in_no_more_than_the_budget_asks() -> None:
    """Of 48 pairs of convolutions 32 are joined under their layer, which leaves 64 groups, and none goes further up."""
    layers = plan_layers(DENSENET).layers

    assert len(layers) == MAX_LAYERS
    assert layers[0] == "features.dense0.layer0"
    assert layers[-1] == "features.dense3.layer11.conv2"


def test_rest_is_other() -> None:
    """What no merging brings within the budget is left to `other`, behind the first groups."""
    assert plan_layers(FLAT, 4).layers == ("block0", "block1", "block2", OTHER)


def test_no_budget_is_an_error() -> None:
    """A plan without any group cannot be made."""
    with pytest.raises(ValueError, match="budget=0 cannot be used"):
        plan_layers(GPT, 0)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("weight", "weight"),
        ("module.weight", "weight"),
        ("module.encoder.weight", "encoder.weight"),
        ("encoder.module.weight", "encoder.module.weight"),
        ("_orig_mod.encoder.weight", "encoder.weight"),
        ("encoder._orig_mod.weight", "encoder.weight"),
        ("module._orig_mod.encoder.weight", "encoder.weight"),
        ("_orig_mod.module.encoder.weight", "encoder.weight"),
        ("_fsdp_wrapped_module.layers.0._fsdp_wrapped_module.weight", "layers.0.weight"),
        ("layers.0._checkpoint_wrapped_module.attn.weight", "layers.0.attn.weight"),
        ("modules.weight", "modules.weight"),
        ("module", "module"),
        ("_orig_mod", "_orig_mod"),
        ("", ""),
    ],
)
def test_clean_name_takes_out_wrappers_only(name: str, clean: str) -> None:
    """What wrappers put into a name goes, `module` in front only, the parameter's own name never."""
    assert clean_name(name) == clean


@every_model
def test_clean_name_is_idempotent(names: tuple[str, ...]) -> None:
    """A clean name is clean."""
    assert [clean_name(clean_name(name)) for name in names] == [clean_name(name) for name in names]
