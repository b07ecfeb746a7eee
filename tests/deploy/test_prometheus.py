"""prometheus.yml: promtool takes it with the real rules, and a real Prometheus finds real runs with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.deploy.files import COMPOSE, DEPLOY, interpolate, mounts, read_yaml
from tests.loops import batch, network
from tests.prometheus_server import PrometheusServer
from tests.promtool import RENDERED, needs_promtool, run_promtool
from torch.optim import SGD

import loopscope

SOURCE = DEPLOY / "prometheus" / "prometheus.yml"
CONFIGURATION = read_yaml(SOURCE)
TOKEN = "correct horse"
SERVICES = interpolate(
    read_yaml(COMPOSE)["services"], {"LOOPSCOPE_DISCOVERY_DIR": "/runs", "GRAFANA_ADMIN_PASSWORD": "chosen"}
)


def lay_out(folder: Path, token: str | None = None) -> str:
    """Put beside the configuration what belongs there; return its text.

    The folder of runs is a link, as it is without Docker, and the token is /dev/null where there is none.
    """
    (folder / "registered").mkdir()
    (folder / "runs").symlink_to(folder / "registered")
    if token is None:
        (folder / "token").symlink_to("/dev/null")
    else:
        (folder / "token").write_text(f"{token}\n")
    shutil.copy(RENDERED / "rules.yaml", folder)
    text = SOURCE.read_text()
    (folder / "prometheus.yml").write_text(text)
    return text


def train(directory: Path, **settings: object) -> tuple[loopscope.Agent, SGD]:
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


def test_all_that_it_names_is_mounted_beside_it():
    """Its paths are relative to its own folder, in a container and on a host alike."""
    (job, _) = CONFIGURATION["scrape_configs"]
    (discovery,) = job["file_sd_configs"]
    (pattern,) = discovery["files"]
    named = {*CONFIGURATION["rule_files"], job["authorization"]["credentials_file"], pattern.partition("/")[0]}

    assert {f"/etc/prometheus/{name}" for name in (*named, "prometheus.yml")} <= set(mounts(SERVICES["prometheus"]))
    assert not any(name.startswith("/") for name in named)


@needs_promtool
def test_promtool_takes_it(tmp_path):
    """With the rules that are generated, and all that it names."""
    lay_out(tmp_path)

    done = run_promtool("check", "config", str(tmp_path / "prometheus.yml"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


@pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool comes with prometheus-alertmanager, which is not installed"
)
def test_alertmanager_takes_what_is_mounted():
    """The file at the path that its flag names."""
    flags = dict(flag.split("=", 1) for flag in SERVICES["alertmanager"]["command"])
    source, _ = mounts(SERVICES["alertmanager"])[flags["--config.file"]]
    path = (COMPOSE.parent / source).resolve()

    done = subprocess.run(["amtool", "check-config", str(path)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    not PrometheusServer.is_installed(), reason="prometheus is not installed (apt-get install prometheus)"
)
@pytest.mark.parametrize(("token", "reached"), [(TOKEN, {"open", "closed"}), (None, {"open"})], ids=["token", "none"])
def test_prometheus_finds_runs_with_it(tmp_path, token, reached):
    """Runs with and without a token of their own are found by the file as it is, but for its intervals of 15 s."""
    server = PrometheusServer(tmp_path, [])
    text = lay_out(tmp_path, token)
    assert text.count("_interval: 15s") == 2
    (tmp_path / "prometheus.yml").write_text(text.replace("_interval: 15s", "_interval: 1s"))
    runs = [train(tmp_path / "runs", name="open"), train(tmp_path / "runs", name="closed", token=TOKEN)]
    try:
        with server as prometheus:
            up = prometheus.wait_for(
                f'count(up{{job="training"}}) == 2 and sum(up{{job="training"}}) == {len(reached)}', seconds=60
            )
            steps = prometheus.wait_for("loopscope_steps_total == 5")
            collector = prometheus.wait_for('up{job="collector"} == 0')
    finally:
        for agent, _ in runs:
            agent.detach()

    assert list(up.values()) == [2.0]
    assert {dict(labels)["agent"] for labels in steps} == reached
    assert list(collector.values()) == [0.0]
