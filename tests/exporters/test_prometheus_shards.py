"""Norms of shards are no norms of layers: what the series of an FSDP2 rank say."""

from __future__ import annotations

import pytest
from tests import builders

from loopscope_exporters.series import AgentSeries


@pytest.fixture(name="points")
def _points():
    series = AgentSeries()
    series.add(builders.run_info(rank=1))
    table = builders.gradient_table((3.0, 4.0, 6.0, 8.0), scope="local_shard", sample=builders.gradient_sample())
    series.add(builders.step_report(rank=1, gradients=table))
    series.add(builders.epoch_report(gradients=builders.layer_statistics(scope="local_shard")))
    return series.collect()


def test_a_shard_exports_its_sum_of_squares(points):
    """Sums of squares add up over the ranks: 3^2 + 4^2 and 6^2 + 8^2 by layer, with the rank that they are of."""
    found = {point.labels["layer"]: point.value for point in points["loopscope.gradient.local_squares"]}
    assert found == pytest.approx({"encoder": 25.0, "head": 100.0})
    assert {point.labels["rank"] for point in points["loopscope.gradient.local_squares"]} == {"1"}


@pytest.mark.parametrize(
    "name",
    [
        "loopscope.gradient.norm",
        "loopscope.gradient.global_norm",
        "loopscope.weight.norm",
        "loopscope.epoch.gradient_norm",
    ],
)
def test_a_shard_exports_no_norm(points, name):
    """What would be the norm of a shard under the name of a layer's norm is left out."""
    assert points[name] == []
