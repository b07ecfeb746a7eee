"""The folder of runs as systemd makes it at boot, in a root of its own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest
from tests.deploy.files import DEPLOY

SYSTEMD = DEPLOY / "systemd"
PROGRAMS = ("systemd-sysusers", "systemd-tmpfiles")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)),
    reason="needs root, systemd-sysusers and systemd-tmpfiles",
)


def run(program: str, *arguments: str) -> str:
    """Run it and return what it said; AssertionError with it where it failed."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_folder_is_of_its_group(tmp_path):
    """Members write, nobody takes away what is another's, everybody reads; the group is made where it is missing."""
    (tmp_path / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={tmp_path}", str(SYSTEMD / "sysusers.conf"))
    complaints = run("systemd-tmpfiles", "--create", f"--root={tmp_path}", str(SYSTEMD / "tmpfiles.conf"))

    group = next(
        line.split(":") for line in (tmp_path / "etc" / "group").read_text().splitlines() if "loopscope" in line
    )
    status = (tmp_path / "run" / "loopscope").stat()

    assert made.startswith("Creating group 'loopscope'")
    assert complaints == ""
    assert stat.filemode(status.st_mode) == "drwxrwsr-t"
    assert (status.st_uid, status.st_gid) == (0, int(group[2]))
