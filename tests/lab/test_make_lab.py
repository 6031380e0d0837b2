"""The README's first command, in a fresh clone, as a newcomer runs it; and once more."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from laboratory import ENVIRONMENT, REPOSITORY, Laboratory

PIP = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def make(clone: Path, target: str, lab: Laboratory) -> str:
    options = f"-c {lab.folder / 'parties.conf'} -o {lab.outputs}"
    environment = {key: value for key, value in ENVIRONMENT.items() if not key.startswith("MAKE")} | PIP
    done = subprocess.run(
        ["make", target, f"LAB={options}"],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_make_lab_in_a_fresh_clone_and_again(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    lab = Laboratory(tmp_path)
    lab.write_configuration()
    try:
        first = make(clone, "lab", lab)
        assert "10000, 9999: healthy and verified, the secure sum is 2000.0" in first
        for hint in ("https://127.0.0.1:", "deploy.py status", "deploy.py all --delete"):
            assert hint in first
        pids = lab.pids()
        again = make(clone, "lab", lab)
        assert "the secure sum is 2000.0" in again
        assert lab.pids() == pids
    finally:
        make(clone, "lab-down", lab)
    assert lab.processes() == []
