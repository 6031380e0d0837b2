"""Flower, measured in its own environment; prints one JSON object a figure, as soon as it is known.

Run by ``../peers.py`` with the interpreter of that environment, in an empty folder. A SuperLink and two SuperNodes on
this machine, without TLS: Flower's simplest deployment, and its fastest. Each message starts a process, as it does
there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROUNDS, LARGE_ROUNDS, LARGE_BYTES = 10, 4, 100_000_000
"""Ten tiny rounds, not fifty: each takes seconds."""

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "bench"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "bench.app:server"
clientapp = "bench.app:client"

[tool.flwr.app.config]
rounds = 1
size = 1024
times = ""
"""
APP = """
import time
import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()

@client.train()
def train(message: Message, context: Context) -> Message:
    with open(f"{context.run_config['times']}{context.node_id}", "a") as file:
        file.write(f"{time.time()}\\n")
    arrays = [value + 1 for value in message.content["arrays"].to_numpy_ndarrays()]
    content = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}
    return Message(content=RecordDict(content), reply_to=message)

@server.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    arrays = ArrayRecord([np.zeros(config["size"] // 4, np.float32)])
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2)
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=config["rounds"])
"""


def tell(name: str, value: float) -> None:
    """Print one figure."""
    print(json.dumps({name: value}), flush=True)


def program(name: str) -> str:
    """Return one of the environment's programs."""
    return str(Path(sys.executable).with_name(name))


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def own_pss_bytes() -> int:
    """Return the proportional set size of all processes that were started in this folder."""
    total, mark = 0, f"FLWR_HOME={os.environ['FLWR_HOME']}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            own = entry.name.isdigit() and int(entry.name) != os.getpid()
            if own and mark in (entry / "environ").read_bytes():
                total += 1024 * int((entry / "smaps_rollup").read_text().split("\nPss:")[1].split()[0])
    return total


class Peak:
    """Samples the memory of the federation while it is entered."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._done.wait(0.1):
            self.bytes = max(self.bytes, own_pss_bytes())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()


@contextlib.contextmanager
def federation() -> Iterator[None]:
    """Run a SuperLink and two SuperNodes; where they listen is written to Flower's configuration."""
    link = free_port()
    address = f"127.0.0.1:{link}"
    home = Path(os.environ["FLWR_HOME"])
    home.mkdir(parents=True)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
    )
    commands = [
        [program("flower-superlink"), "--insecure", "--port", str(link), "--disable-runtime-dependency-installation"]
    ]
    for _ in range(2):
        commands.append([program("flower-supernode"), "--insecure", "--superlink", address, "--port", str(free_port())])
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(Path("log").open("w"))
        for command in commands:
            started = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(stop, started)
            time.sleep(3)
        yield


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
        return
    process.kill()
    process.wait()


def flwr(*words: str) -> str:
    """Run Flower's command."""
    done = subprocess.run([program("flwr"), *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"flwr {' '.join(words)}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout


def run_job(rounds: int, size_bytes: int, times: Path) -> float:
    """Submit a run and wait for its end; return the seconds."""
    began = time.perf_counter()
    config = f'rounds={rounds} size={size_bytes} times="{times}"'
    answer = flwr("run", "project", "bench", "--run-config", config, "--format", "json")
    run = re.search(r'"run-id":\s*"?(\d+)', answer)
    if run is None:
        raise SystemExit(f"flwr run: {answer[-1500:]}")
    while True:
        (found,) = json.loads(flwr("ls", "--run-id", run[1], "--format", "json"))["runs"]
        if found["status"].startswith("finished"):
            break
        time.sleep(0.2)
    if found["status"] != "finished:completed":
        raise SystemExit(f"the run ended with {found['status']}: {Path('log').read_text()[-1500:]}")
    return time.perf_counter() - began


def round_s(times: Path) -> float:
    """Return the median seconds between the rounds of one client."""
    first = min(times.parent.glob(times.name + "*"))
    stamps = [float(line) for line in first.read_text().split()]
    return statistics.median(after - before for before, after in itertools.pairwise(stamps))


def main() -> None:
    """Measure everything."""
    os.environ["FLWR_HOME"] = str(Path.cwd() / "home")
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    package = Path("project/bench")
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "app.py").write_text(APP)
    Path("project/pyproject.toml").write_text(PROJECT)
    with federation():
        tell("idle_pss_bytes", own_pss_bytes())
        tell("job_s", run_job(1, 1024, Path.cwd() / "smallest."))
        run_job(ROUNDS, 1024, Path.cwd() / "rounds.")
        tell("round_s", round_s(Path.cwd() / "rounds."))
        with Peak() as peak:
            run_job(LARGE_ROUNDS, LARGE_BYTES, Path.cwd() / "large.")
        tell("large_round_s", round_s(Path.cwd() / "large."))
        tell("large_peak_pss_bytes", peak.bytes)
        began = time.perf_counter()
        flwr("ls")
        tell("list_s", time.perf_counter() - began)


if __name__ == "__main__":
    main()
