"""Records as JSON: the fields, the gaps, and what JSON cannot say."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from tests.builders import epoch_report, event, gradient_sample, gradient_table, run_info, self_report, step_report

from loopscope_exporters.encoding import encode

nan, inf = math.nan, math.inf


def decode(*arguments, **options):
    """What a strict JSON parser reads."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(encode(*arguments, **options), parse_constant=refuse)


@pytest.mark.parametrize(
    ("record", "type_name"),
    [
        (run_info(), "run"),
        (step_report(), "step"),
        (epoch_report(), "epoch"),
        (event(), "event"),
        (self_report(), "self"),
    ],
)
def test_every_field_of_a_record_is_there(record, type_name):
    """The object has version, type and the record's fields, events apart."""
    names = {field.name for field in dataclasses.fields(record)} - {"events"}

    entry = decode(record)

    assert set(entry) == names | {"version", "type"}
    assert (entry["version"], entry["type"]) == (1, type_name)


def test_a_step_has_its_columns():
    """Scalars come back as they were, columns under their names without shape suffix."""
    report = step_report(12, epoch=3, loss=0.1 + 0.2, gradients=gradient_table(sample=gradient_sample()))

    entry = decode(report)

    assert (entry["step"], entry["epoch"], entry["loss"]) == (12, 3, 0.1 + 0.2)
    gradients = entry["gradients"]
    assert gradients["layers"] == ["encoder", "head"]
    assert gradients["names"] == ["encoder.0.weight", "encoder.1.weight", "head.2.weight", "head.3.weight"]
    assert gradients["layer_index"] == [0, 0, 1, 1]
    assert gradients["norms"] == [3, 4, 6, 8]
    assert gradients["layer_norms"] == [5, 10]
    assert gradients["num_nonfinite"] == [0, 0, 0, 0]
    assert gradients["sample"]["max_abs"] == [0.5, 1, 1.5, 2]
    assert gradients["sample"]["layer_max_abs"] == [0.5, 1]
    assert gradients["sample"]["is_exact"] == [True] * 4
    assert np.shape(gradients["sample"]["layer_histogram"]) == (2, 98)


def test_a_sample_has_all_its_fields():
    """Each field of a sample has a key of its own."""
    sample = decode(step_report(gradients=gradient_table(sample=gradient_sample())))["gradients"]["sample"]

    assert len(sample) == len(dataclasses.fields(gradient_sample()))


def test_parameters_and_names_can_be_left_out():
    """Without names the tables go; without parameters all columns with an entry a parameter."""
    report = step_report(gradients=gradient_table(sample=gradient_sample()))

    without_names = decode(report, has_names=False)["gradients"]
    without_parameters = decode(report, has_parameters=False)["gradients"]

    assert {"layers", "names", "layer_index"}.isdisjoint(without_names)
    assert "norms" in without_names
    assert without_parameters["layer_norms"] == [5, 10]
    assert {"names", "layer_index", "norms", "num_nonfinite"}.isdisjoint(without_parameters)
    assert set(without_parameters["sample"]) == {
        "layer_max_abs", "layer_zero_ratio", "layer_weight_norms", "layer_update_ratios", "layer_histogram", "sum_abs",
    }  # fmt: skip


def test_unknown_is_null_and_nan_is_a_text():
    """A norm without gradient is null; one of a non-finite gradient is "NaN" or "Infinity"."""
    table = gradient_table(
        (1.5, nan, nan, inf), layers=("a", "b"), num_nonfinite=(0, 0, 3, 1), layer_norms=np.array([1.5, nan]),
        global_norm=nan, sample=gradient_sample(zero_ratio_P=np.array([0.5, nan, nan, nan])),
    )  # fmt: skip

    gradients = decode(step_report(gradients=table, loss=-inf))["gradients"]

    assert gradients["norms"] == [1.5, None, "NaN", "Infinity"]
    assert gradients["layer_norms"] == [1.5, "NaN"]
    assert gradients["global_norm"] == "NaN"
    assert gradients["sample"]["zero_ratio"] == [0.5, None, None, None]


def test_a_model_without_any_gradient_has_null_norms():
    """Where nothing is non-finite a NaN norm means that there was no gradient."""
    gradients = decode(step_report(gradients=gradient_table((nan, nan), layers=("a",))))["gradients"]

    assert (gradients["norms"], gradients["layer_norms"], gradients["global_norm"]) == ([None, None], [None], None)


@pytest.mark.parametrize(("loss", "text"), [(nan, "NaN"), (inf, "Infinity"), (-inf, "-Infinity"), (None, None)])
def test_a_loss_that_is_not_finite_is_a_text(loss, text):
    """A loss that is NaN or infinite is said so; one that is not known is null."""
    assert decode(step_report(loss=loss))["loss"] == text


@pytest.mark.parametrize("value", [1 / 3, 1e-30, 3.4e38, 1.17549435e-38, 123456792.0, 5e-324, 0.0])
def test_a_column_carries_any_float32(value):
    """Nine digits give back the float32 that a norm was."""
    (read,) = decode(step_report(gradients=gradient_table((np.float32(value),), layers=("a",))))["gradients"]["norms"]

    assert np.float32(read) == np.float32(value)


def test_anything_may_stand_in_attributes():
    """Objects, numpy values, NaN, tuples and odd keys become something that JSON has."""
    attributes = {
        "array": np.array([1.0, nan]), "number": np.float32(0.5), 3: (1, {2}), "nan": nan, "object": int, "flag": True,
        "text": "a\"b\nc\ud800", "none": None, "nested": {"inf": -inf},
    }  # fmt: skip

    entry = decode(event(attributes=attributes))

    assert entry["attributes"] == {
        "array": [1.0, "NaN"], "number": 0.5, "3": [1, [2]], "nan": "NaN", "object": "<class 'int'>", "flag": True,
        "text": "a\"b\nc\ud800", "none": None, "nested": {"inf": "-Infinity"},
    }  # fmt: skip


def test_the_text_is_one_line_of_ascii():
    """No newline and no byte above 127, whatever the names."""
    text = encode(step_report(gradients=gradient_table((1.0,), layers=("слой\n🦜",))))

    assert text.isascii()
    assert "\n" not in text


def test_an_epoch_has_its_statistics():
    """The columns of an epoch stand under `gradients` with the layers they belong to."""
    entry = decode(epoch_report(2))

    assert entry["gradients"]["layers"] == ["encoder", "head"]
    assert entry["gradients"]["p95"] == [8, 16]
    assert entry["global_norm"]["max"] == 9.0


def test_extra_keys_stand_in_front():
    """What a writer has to say of its log comes right after the type."""
    assert list(decode(event(), extra={"num_dropped_lines": 3}))[:3] == ["version", "type", "num_dropped_lines"]
