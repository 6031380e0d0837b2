"""The peers' figures on this machine: NVIDIA FLARE and Flower, each in an environment of its own.

Run ``python benchmarks/peers.py``. Environments lie in ``~/.cache/fedparty-benchmarks`` (XDG_CACHE_HOME) and are made
by the first run, from the package index, at the versions below. A peer that cannot be installed or run is said, and
reference values stand in for it, marked as such. Nothing of a peer is imported here: its script, in ``peers/``, runs in
its own environment and prints figures.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from beside import CACHE, MEASURED, REFERENCE

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 900


@dataclass(frozen=True)
class Peer:
    """One peer: its name, the requirement that installs it, and its script."""

    name: str
    requirement: str
    script: str


PEERS = (Peer("FLARE", "nvflare==2.9.0", "flare.py"), Peer("Flower", "flwr==1.41.0", "flower.py"))

ROWS = {
    "up_s": ("a server and two clients, up", "s", 1.0),
    "idle_pss_bytes": ("  idle, all processes (PSS)", "MiB", 2**20),
    "job_s": ("smallest job, submit → success", "s", 1.0),
    "round_s": ("a tiny round inside a job", "s", 1.0),
    "large_round_s": ("a round of 100 MB to and from two clients", "s", 1.0),
    "large_peak_pss_bytes": ("  all processes, peak (PSS)", "MiB", 2**20),
    "list_s": ("list of jobs, whole process", "s", 1.0),
    "down_s": ("down", "s", 1.0),
}
"""What each of a peer's figures is, its unit, and how many of what it prints are one."""


def interpreter_of(peer: Peer) -> Path:
    """Return the interpreter of a peer's environment, which is made where it is absent.

    Raises
    ------
    subprocess.CalledProcessError
        It cannot be installed.
    """
    folder = CACHE / peer.requirement
    python, is_whole = folder / "bin" / "python", folder / ".installed"
    if not is_whole.exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", peer.requirement]
        subprocess.run(install, check=True, capture_output=True, text=True)
        is_whole.touch()
    return python


def measure(peer: Peer) -> tuple[dict[str, float], str]:
    """Return what a peer's script printed, and why it did not print more; empty: it is all there."""
    try:
        python = interpreter_of(peer)
    except (OSError, subprocess.CalledProcessError) as exc:
        return {}, f"cannot be installed: {getattr(exc, 'stderr', '') or exc}"
    with tempfile.TemporaryDirectory(prefix="fp-peer-") as name:
        printed, fault = run([str(python), str(HERE / "peers" / peer.script)], Path(name))
    found: dict[str, float] = {}
    for line in printed.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    return found, fault


def run(command: list[str], folder: Path) -> tuple[str, str]:
    """Run a script in a folder that is its home; return what it printed, and why it failed, empty: it did not."""
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)
    try:
        printed, errors = started.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        started.send_signal(signal.SIGINT)  # it stops what it has started
        printed, _ = started.communicate()
        return printed, f"it did not end within {TIMEOUT_S} s"
    return printed, "" if started.returncode == 0 else errors.strip()[-500:] or "it failed"


def main() -> None:
    """Measure and print every peer's figures, and keep them for the notes beside ours."""
    found: dict[str, dict[str, float]] = {}
    for peer in PEERS:
        found[peer.name], fault = measure(peer)
        if fault:
            print(f"{peer.name} ({peer.requirement}): {fault}", flush=True)
        figures = REFERENCE[peer.name] | found[peer.name]
        for key, (what, unit, scale) in ROWS.items():
            if key in figures:
                mark = "" if key in found[peer.name] else "(reference, not this run)"
                print(
                    f"{peer.name + ': ' + what:<66} {figures[key] / scale:>9.3g} {unit:<6} {mark}".rstrip(), flush=True
                )
    MEASURED.parent.mkdir(parents=True, exist_ok=True)
    MEASURED.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
