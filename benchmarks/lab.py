"""Figures of a running two-party lab: deploy, the toy job, memory.

Run ``python benchmarks/lab.py``; it starts labs of its own in a temporary folder and stops them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import psutil
from figures import Figure, median_s, show

REPOSITORY = Path(__file__).resolve().parent.parent
PARTIES = ("10000", "9999")
MIB = 1024**2
INTERPRETER = sys.executable
"""Of the programs that `run` starts, and so of a lab's services."""


def free_ports(count: int) -> list[int]:
    """Return `count` TCP ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def run(*argv: str) -> None:
    """Run one of the repository's programs; its output is shown only where it fails."""
    done = subprocess.run(
        [INTERPRETER, *argv], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)} failed with {done.returncode}:\n{done.stdout}")


def configure(folder: Path, layout: str) -> list[str]:
    """Write a parties.conf of two parties on free ports; return the options that name it."""
    ports = free_ports(2 * len(PARTIES))
    text = f"engine=process\nservice_layout={layout}\n"
    text += f"partylist=({' '.join(PARTIES)})\npartyiplist=(127.0.0.1 127.0.0.1)\n"
    for index, party in enumerate(PARTIES):
        text += f"[{party}]\nproxy_port={ports[2 * index]}\nrest_port={ports[2 * index + 1]}\n"
    (folder / "parties.conf").write_text(text)
    return ["-c", str(folder / "parties.conf"), "-o", str(folder / "outputs")]


@contextlib.contextmanager
def lab(layout: str, started: list[float]) -> Iterator[Path]:
    """Run a verified lab; append the seconds that `deploy.py all` took to `started`."""
    with tempfile.TemporaryDirectory(prefix="fp-") as name:
        folder = Path(name)
        options = configure(folder, layout)
        run("generate_config.py", *options)
        begin = perf_counter()
        try:
            run("deploy.py", "all", *options)
            started.append(perf_counter() - begin)
            yield folder / "outputs"
        finally:
            run("deploy.py", "all", *options, "--delete", "--purge")


def processes_of(outputs: Path, party: str) -> list[psutil.Process]:
    """Return the processes whose home is this party's."""
    home = str(outputs / "deployed" / f"confs-{party}")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("FEDPARTY_HOME") == home:
                found.append(process)
    return found


def pss_mib(outputs: Path, party: str) -> float:
    """Return the proportional set size of a party's processes, in MiB (proc(5), smaps_rollup)."""
    return sum(process.memory_full_info().pss for process in processes_of(outputs, party)) / MIB


class PeakMemory:
    """Samples the resident set of every process of the lab while it is entered; `mib` is the largest of one process."""

    def __init__(self, outputs: Path) -> None:
        self._outputs = outputs
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.mib = 0.0

    def _sample(self) -> None:
        while not self._done.wait(0.05):
            for party in PARTIES:
                for process in processes_of(self._outputs, party):
                    with contextlib.suppress(psutil.Error):
                        self.mib = max(self.mib, process.memory_info().rss / MIB)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()


def toy(outputs: Path, *options: str) -> None:
    """Run the toy job of both parties."""
    run("toy_example/run_toy_example.py", *PARTIES, "1", "--outputs", str(outputs), *options)


def main() -> None:
    """Measure both layouts and print every figure."""
    os.environ.pop("FEDPARTY_HOME", None)
    started: list[float] = []
    with lab("separate", started) as outputs:
        figures = [
            Figure("bundles generated → two parties healthy and verified", started[0], "s", 5, note="FLARE 18.7 s"),
            Figure("idle party, separate processes (PSS)", max(pss_mib(outputs, p) for p in PARTIES), "MiB", 300),
            Figure("toy job, submit → sum, data_num 1000, median of 20", median_s(lambda: toy(outputs), 20), "s", 0.5,
                   note="whole script; FLARE 10.9, FATE 8.8 + 4-24"),
        ]  # fmt: skip
        with PeakMemory(outputs) as peak:
            large_s = median_s(lambda: toy(outputs, "--data-num", "10000000"), 3)
        figures.append(Figure("toy job, data_num 10^7, both parties here, median of 3", large_s, "s", 3))
        figures.append(Figure("  its largest process (RSS)", peak.mib, "MiB", 1024))
    with lab("together", started) as outputs:
        figures.append(Figure("  the same, Python services of a party in one process", started[1], "s", 5))
        figures.append(
            Figure("idle party, Python services in one (PSS)", max(pss_mib(outputs, p) for p in PARTIES), "MiB", 200)
        )
    show(figures)


if __name__ == "__main__":
    main()
