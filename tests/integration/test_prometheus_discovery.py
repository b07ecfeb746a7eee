"""One configuration of a real Prometheus finds every run of a host, through TLS and with its token."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.certificates import make_certificate, needs_openssl
from tests.loops import batch, network
from tests.prometheus_server import PrometheusServer
from torch.optim import SGD

import loopscope

pytestmark = [
    pytest.mark.skipif(
        not PrometheusServer.is_installed(), reason="prometheus is not installed (apt-get install prometheus)"
    ),
    needs_openssl,
]
TOKEN = "correct horse"


def _train(directory: Path, **settings: object) -> tuple[loopscope.Agent, SGD]:
    """Return the agent, and the optimizer, without which it would close itself."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    agent = loopscope.attach(model, optimizer, port=0, discovery_dir=directory, **settings)
    for step in range(5):
        model(batch(step)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert agent.flush(10)
    return agent, optimizer


def test_every_run_is_found(tmp_path: Path) -> None:
    """Two runs, one of them with TLS and a token, appear with their steps; one that ends is looked for no longer."""
    directory = tmp_path / "runs"
    certificate, key = make_certificate(tmp_path)
    scrape = {
        "static_configs": [],
        "file_sd_configs": [{"files": [f"{directory}/*.json"], "refresh_interval": "1s"}],
        "authorization": {"credentials": TOKEN},
        "tls_config": {"ca_file": certificate},
    }
    plain, _plain_optimizer = _train(directory, name="plain")
    secure, _secure_optimizer = _train(directory, name="secure", token=TOKEN, tls_certificate=certificate, tls_key=key)
    try:
        with PrometheusServer(tmp_path, [], scrape=scrape) as prometheus:
            steps = prometheus.wait_for("count(loopscope_steps_total == 5) == 2")
            plain.detach()
            left = prometheus.wait_for("count(up) == 1 and count(up == 1) == 1")
            agents = prometheus.query("loopscope_steps_total and on (instance) up == 1")
    finally:
        plain.detach()
        secure.detach()

    assert list(steps.values()) == [2.0]
    assert list(left.values()) == [1.0]
    assert [dict(labels)["agent"] for labels in agents] == ["secure"]
