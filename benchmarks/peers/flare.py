"""NVIDIA FLARE, measured in its own environment; prints one JSON object a figure, as soon as it is known.

Run by ``../peers.py`` with the interpreter of that environment, in an empty folder. Every knob is as installed: a
federation of ``nvflare poc prepare``, mutual TLS, a NumPy model averaged by its own recipe; the client adds 1 and sends
it back.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROUNDS, LARGE_ROUNDS, LARGE_BYTES = 50, 5, 100_000_000
ADMIN = "admin@nvidia.com"

CLIENT = """
import time
import nvflare.client as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    with open({times!r} + flare.get_site_name(), "a") as file:
        file.write(str(time.time()) + "\\n")
    model.params = {{name: value + 1 for name, value in model.params.items()}}
    flare.send(flare.FLModel(params=model.params, params_type=model.params_type, metrics={{"accuracy": 0.0}}))
"""


def tell(name: str, value: float) -> None:
    """Print one figure."""
    print(json.dumps({name: value}), flush=True)


def program(*words: str) -> float:
    """Run FLARE's command; return its wall time in seconds."""
    began = time.perf_counter()
    done = subprocess.run([str(Path(sys.executable).with_name("nvflare")), *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"nvflare {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began


def own_pss_bytes(workspace: Path) -> int:
    """Return the proportional set size of all processes that belong to a federation's folder."""
    total = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit() and str(workspace).encode() in (entry / "cmdline").read_bytes():
                rollup = (entry / "smaps_rollup").read_text()
                total += 1024 * int(rollup.split("\nPss:")[1].split()[0])
    return total


class Peak:
    """Samples the memory of the federation while it is entered."""

    def __init__(self, workspace: Path) -> None:
        self.bytes = 0
        self._workspace, self._done = workspace, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._done.wait(0.1):
            self.bytes = max(self.bytes, own_pss_bytes(self._workspace))

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()


def job_folder(name: str, rounds: int, size_bytes: int) -> tuple[str, Path]:
    """Write a job; return its folder, and the prefix of the files in which its clients note their rounds."""
    import numpy as np
    from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe

    times, script = Path.cwd() / f"{name}.", Path.cwd() / f"{name}_client.py"
    script.write_text(CLIENT.format(times=str(times)))
    model = Path.cwd() / f"{name}.npy"
    np.save(model, np.zeros(size_bytes // 4, np.float32))
    recipe = NumpyFedAvgRecipe(
        name=name, min_clients=2, num_rounds=rounds, initial_ckpt=str(model), train_script=str(script)
    )
    recipe.export("jobs")
    return str(Path.cwd() / "jobs" / name), times


def status_of(session: Any, job: str) -> str:
    """Return how a job stands; a server that is too busy to answer is asked again."""
    from nvflare.fuel.flare_api.api_spec import NoConnection

    for _ in range(60):
        with contextlib.suppress(NoConnection):
            return str(session.get_job_meta(job)["status"])
        time.sleep(1)
    raise SystemExit("the server does not answer any more")


def run_job(session: Any, folder: str) -> float:
    """Submit a job and wait for its end; return the seconds."""
    began = time.perf_counter()
    job = session.submit_job(folder)
    while not (status := status_of(session, job)).startswith("FINISHED"):
        time.sleep(0.2)
    if status != "FINISHED:COMPLETED":
        raise SystemExit(f"{folder}: {status}")
    return time.perf_counter() - began


def round_s(times: Path) -> float:
    """Return the median seconds between the rounds of the first client."""
    stamps = [float(line) for line in times.with_name(times.name + "site-1").read_text().split()]
    return statistics.median(after - before for before, after in itertools.pairwise(stamps))


@contextlib.contextmanager
def federation() -> Iterator[Path]:
    """Run a federation of a server and two clients; tell how long it took to come and to go."""
    workspace = Path.cwd() / "poc"
    os.environ["NVFLARE_POC_WORKSPACE"] = str(workspace)
    program("poc", "prepare", "-n", "2", "--force")
    try:
        tell("up_s", program("poc", "start", "--timeout", "120"))
        yield workspace
    finally:
        tell("down_s", program("poc", "stop"))


def main() -> None:
    """Measure everything."""
    from nvflare.fuel.flare_api.flare_api import new_secure_session

    with federation() as workspace:
        (kit,) = workspace.rglob(ADMIN)
        tell("idle_pss_bytes", own_pss_bytes(workspace))
        session = new_secure_session(ADMIN, str(kit))
        try:
            tell("job_s", run_job(session, job_folder("smallest", 1, 1024)[0]))
            folder, times = job_folder("rounds", ROUNDS, 1024)
            run_job(session, folder)
            tell("round_s", round_s(times))
            folder, times = job_folder("large", LARGE_ROUNDS, LARGE_BYTES)
            with Peak(workspace) as peak:
                run_job(session, folder)
            tell("large_round_s", round_s(times))
            tell("large_peak_pss_bytes", peak.bytes)
        finally:
            session.close()
        lists = [program("job", "list") for _ in range(3)]
        tell("list_s", statistics.median(lists))


if __name__ == "__main__":
    main()
