"""Figures of ``fedparty lab``: up to healthy and verified, down, and what ten idle parties take of memory.

Run ``python benchmarks/lab_up.py``; it makes labs of its own in a temporary folder and removes them. The peer's
figure is that of NVIDIA FLARE's ``poc start`` until all clients are registered, which verifies nothing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import psutil
from beside import note
from figures import Figure, show

LIMITS_S = {2: 5.0, 10: 15.0}
PEER = {2: "up_s", 10: "up_10_s"}
MIB = 1024**2


def lab(folder: Path, *words: str) -> float:
    """Run a command about a lab and return the seconds it took; its output is shown only where it fails."""
    begin = perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "fedparty", "lab", *words, "--dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"lab {' '.join(words)} failed with {done.returncode}:\n{done.stdout}")
    return perf_counter() - begin


def pss_mib(folder: Path) -> float:
    """Return the proportional set size of all processes of a lab, in MiB (proc(5), smaps_rollup)."""
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("FEDPARTY_HOME", "").startswith(f"{folder}/"):
                total += process.memory_full_info().pss
    return total / MIB


def measure(parties: int) -> Iterator[Figure]:
    """Yield the figures of one lab."""
    with tempfile.TemporaryDirectory(prefix="fp-") as name:
        folder = Path(name) / "lab"
        try:
            up_s = lab(folder, "up", "-n", str(parties))
            again_s = lab(folder, "up")
            pss = pss_mib(folder)
        finally:
            down_s = lab(folder, "down")
            lab(folder, "down", "--purge")
    yield Figure(f"lab up -n {parties} → healthy and verified", up_s, "s", LIMITS_S[parties], note=note(PEER[parties]))
    yield Figure("  again, nothing to do but to verify", again_s, "s")
    yield Figure(f"lab down, {parties} parties", down_s, "s", 2.0, note=note("down_s") if parties == 2 else "")
    yield Figure(f"{parties} idle parties (PSS)", pss, "MiB", 1.9 * 1024 if parties == 10 else None)


def main() -> None:
    """Measure small and large, and say how busy the machine was with other things."""
    os.environ.pop("FEDPARTY_HOME", None)
    print(f"{os.cpu_count()} cores, load before the start {os.getloadavg()[0]:.1f}", flush=True)
    for parties in LIMITS_S:
        show(list(measure(parties)))


if __name__ == "__main__":
    main()
