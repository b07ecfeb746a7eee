"""What the Job and the Slurm script start: real torchruns on this machine, whose ranks all register and answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.deploy.files import DEPLOY
from tests.deploy.kustomizing import Build
from tests.prometheus_server import free_port
from tests.python_process import ROOT
from tests.waiting import wait_until
from tests.web import request

TRAINING = DEPLOY / "kubernetes" / "training"
SLURM_SCRIPT = DEPLOY / "slurm" / "train.sbatch"
TOKEN = "correct horse"
SECONDS = 120.0


@contextlib.contextmanager
def started(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a session of its own, with no settings but these; it is ended at the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LOOPSCOPE_", "SLURM_"))}
    paths = [str(ROOT / root) for root in ("agent", "dashboards", "exporters")]
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "LOOPSCOPE_STRICT": "1", **variables}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # torchrun ends its ranks, which are in sessions of their own
        process.wait(SECONDS)


def registered(folder: Path) -> dict[str, dict[str, str]]:
    """Return what ranks have written about themselves by their rank, their address as `target`."""
    found = {}
    for path in folder.glob("loopscope-*.json"):
        with contextlib.suppress(FileNotFoundError):
            (group,) = json.loads(path.read_text())
            meta = {name.removeprefix("__meta_loopscope_"): value for name, value in group["labels"].items()}
            found[meta["rank"]] = {**meta, "target": group["targets"][0]}
    return found


def wait_for_ranks(
    count: int, runs: Path, log: Path, processes: Sequence[subprocess.Popen[bytes]]
) -> dict[str, dict[str, str]]:
    """Return what all ranks have written, once they have."""

    def all_there() -> dict[str, dict[str, str]] | None:
        assert all(process.poll() is None for process in processes), log.read_text()
        found = registered(runs)
        return found if len(found) == count else None

    return wait_until(all_there, seconds=SECONDS)


def steps_of(rank: Mapping[str, str]) -> float:
    """Return how many steps a rank has taken, asked with the token at its port on the loopback."""
    port = rank["target"].rpartition(":")[2]
    page = request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert page.status == 200, page.text
    return sum(float(line.split()[1]) for line in page.text.splitlines() if line.startswith("loopscope_steps_total"))


def test_pods_train_together(tmp_path):
    """The command of the pods, each as a node of its own: their ranks meet, train, and answer at a port each.

    Replaced are the names that a cluster gives (the first pod's, its port, the folder of the script), and two ranks a
    pod by one, which is faster; two on a host are in the next test.
    """
    job = Build(TRAINING).only("Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    runs, port = tmp_path / "runs", free_port()
    runs.mkdir()
    variables = {
        "LOOPSCOPE_RUN": job["metadata"]["name"],
        "LOOPSCOPE_HOST": "127.0.0.1",
        "LOOPSCOPE_TOKEN": TOKEN,
        "LOOPSCOPE_DISCOVERY_DIR": str(runs),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    commands = [
        [
            argument.replace("$(NODE_RANK)", str(node))
            .replace("digits-0.digits", "127.0.0.1")
            .replace("29500", str(port))
            .replace("/workspace", str(TRAINING))
            .replace("--nproc-per-node=2", "--nproc-per-node=1")
            for argument in container["args"]
        ]
        for node in range(job["spec"]["completions"])
    ]
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(started([sys.executable, "-m", "torch.distributed.run", *each], tmp_path, variables))
            for each in commands
        ]
        ranks = wait_for_ranks(2, runs, tmp_path / "log", nodes)
        for rank in ranks.values():
            wait_until(lambda rank=rank: steps_of(rank) > 0, seconds=SECONDS)

    assert set(ranks) == {"0", "1"}
    assert {rank["run"] for rank in ranks.values()} == {"digits"}
    assert len({rank["target"] for rank in ranks.values()}) == 2


@pytest.fixture
def slurm(tmp_path):
    """Variables of a job on one node with two GPUs, and stand-ins for Slurm's two programs."""
    programs = tmp_path / "programs"
    programs.mkdir()
    texts = {
        "srun": '[[ "$1" == --cpus-per-task=4 ]] || exit 9; shift; exec "$@"',
        "scontrol": '[[ "$*" == "show hostnames node-[0]" ]] && echo 127.0.0.1',
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    }
    for name, text in texts.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "runs").mkdir()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_JOB_NAME": "resnet",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_RESTART_COUNT": "1",
        "SLURM_JOB_NODELIST": "node-[0]",
        "SLURM_NNODES": "1",
        "SLURM_CPUS_PER_TASK": "4",
        "SLURM_GPUS_ON_NODE": "2",
        "LOOPSCOPE_DISCOVERY_DIR": str(tmp_path / "runs"),
        "SCRAPE_TOKEN_FILE": str(tmp_path / "token"),
        "GLOO_SOCKET_IFNAME": "lo",
    }


def test_slurm_ranks_register_and_are_forgotten(tmp_path, slurm):
    """Every rank's file lands in the shared folder; ranks that are killed leave none, and other runs keep theirs."""
    runs = tmp_path / "runs"
    other = runs / "loopscope-elsewhere-1-1-model.json"
    group = {
        "targets": ["elsewhere:9464"],
        "labels": {"__meta_loopscope_run": "resnet-1", "__meta_loopscope_rank": "9"},
    }
    with started(["bash", str(SLURM_SCRIPT), str(TRAINING / "train.py")], tmp_path, slurm) as script:
        ranks = wait_for_ranks(2, runs, tmp_path / "log", [script])
        steps = [wait_until(lambda rank=rank: steps_of(rank), seconds=SECONDS) for rank in ranks.values()]
        other.write_text(json.dumps([group], indent=1))
        for rank in ranks.values():
            with contextlib.suppress(ProcessLookupError):  # torchrun ends the others where one is gone
                os.kill(int(rank["pid"]), signal.SIGKILL)
        status = script.wait(SECONDS)

    assert set(ranks) == {"0", "1"}
    assert {rank["run"] for rank in ranks.values()} == {f"resnet-{os.getpid()}-1"}
    assert min(steps) > 0
    assert status != 0
    assert list(runs.iterdir()) == [other]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("LOOPSCOPE_DISCOVERY_DIR", "set it to a folder that the nodes share"),
        ("SCRAPE_TOKEN_FILE", "set it to the file with the token"),
    ],
)
def test_slurm_script_says_what_it_needs(tmp_path, slurm, missing, message):
    """Without the folder or the token it starts nothing."""
    del slurm[missing]
    with started(["bash", str(SLURM_SCRIPT), "train.py"], tmp_path, slurm) as script:
        status = script.wait(SECONDS)

    assert status != 0
    assert f"{missing}: {message}" in (tmp_path / "log").read_text()


def test_slurm_script_needs_a_script(tmp_path, slurm):
    """Without arguments it says how it is called."""
    with started(["bash", str(SLURM_SCRIPT)], tmp_path, slurm) as script:
        status = script.wait(SECONDS)

    assert status == 2
    assert (tmp_path / "log").read_text() == "usage: sbatch train.sbatch SCRIPT [ARGUMENT ...]\n"
