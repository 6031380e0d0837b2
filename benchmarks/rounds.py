"""Figures of rounds inside one job: a small value there and back, and a large array to and from two parties.

Run ``python benchmarks/rounds.py``; it starts a lab of its own in a temporary folder and stops it. Its component comes
from ``components/`` by an entry point, in a virtual environment beside the lab, so nothing is installed into yours.

Both parties play a host, one of them the guest too, as a server and two clients do at the peers: each of the four
transfers of a large round passes two proxies, with TLS both ways, and a mailbox that syncs it to disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import sysconfig
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import lab as laboratory
import psutil
from beside import note
from figures import Figure, show
from lab import MIB, PARTIES

from fedparty.client import Session

HERE = Path(__file__).resolve().parent
SMALL_BYTES, SMALL_ROUNDS = 1024, 50
LARGE_BYTES, LARGE_ROUNDS = 100_000_000, 6
GUEST_AND_HOST = {"guest": [PARTIES[0]], "host": [PARTIES[1]]}
TWO_HOSTS = {"guest": [PARTIES[0]], "host": list(PARTIES)}


def environment_with_component(folder: Path) -> Path:
    """Make an environment that has all of this one's packages and the component; return its interpreter."""
    venv.create(folder, symlinks=True, with_pip=False)
    own = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (own / "rounds.py").write_bytes((HERE / "components" / "rounds.py").read_bytes())
    (own / "inherited.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    information = own / "benchmark_rounds-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: benchmark-rounds\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[fedparty.components]\nrounds = rounds:Rounds\nidles = rounds:Idles\n"
    )
    return folder / "bin" / "python"


def allow(outputs: Path) -> None:
    """Let both parties run the component, and wait until their flows say that the policy is in force."""
    text = "version: 1\nrules:\n  - {name: benchmark, parties: all, components: [secure_sum, rounds, idles]}\n"
    for party in PARTIES:
        home = outputs / "deployed" / f"confs-{party}"
        (home / "policy").mkdir(exist_ok=True)
        (home / "policy" / "policy.new").write_text(text)
        (home / "policy" / "policy.new").replace(home / "policy" / "policy.yaml")
        with Session.at_home(home) as session:
            while "rounds" not in json.dumps(session.policy()):
                time.sleep(0.05)


class PeakPss:
    """Samples all processes of a lab while it is entered; `mib` is the largest sum of their proportional set sizes."""

    def __init__(self, outputs: Path) -> None:
        self._home = str(outputs / "deployed")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.idle_mib = self.mib = self._now()

    def _now(self) -> float:
        total = 0
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("FEDPARTY_HOME", "").startswith(self._home):
                    total += process.memory_full_info().pss
        return total / MIB

    def _sample(self) -> None:
        while not self._done.wait(0.05):
            self.mib = max(self.mib, self._now())

    def __enter__(self) -> PeakPss:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()


def run_rounds(
    session: Session, roles: dict[str, list[str]], size_bytes: int, rounds: int
) -> tuple[list[float], float]:
    """Run one job; return the seconds of each round, and of the whole job."""
    task = {"component": "rounds", "parameters": {"size_bytes": size_bytes, "rounds": rounds}, "cores": 0.1}
    began = perf_counter()
    submitted = session.submit({"name": "rounds", "roles": roles, "tasks": {"rounds": task}, "timeout_s": 600})
    times = session.wait(submitted.id, 600).require_success().result("rounds", "guest")
    assert isinstance(times, list)
    return times, perf_counter() - began


def measure(outputs: Path) -> Iterator[Figure]:
    """Yield the figures of one lab."""
    with Session.at_home(outputs / "deployed" / f"confs-{PARTIES[0]}") as session:
        run_rounds(session, GUEST_AND_HOST, SMALL_BYTES, SMALL_ROUNDS)
        times, all_s = run_rounds(session, GUEST_AND_HOST, SMALL_BYTES, SMALL_ROUNDS)
        yield Figure("1 KB there and back inside a job, a round (mean of 50)", statistics.mean(times) * 1000, "ms", 10,
                     note=note("round_s"))  # fmt: skip
        yield Figure("  the job of these 50 rounds, submit → success", all_s, "s")
        times, _ = run_rounds(session, TWO_HOSTS, LARGE_BYTES, LARGE_ROUNDS)
        yield Figure("100 MB to and from two parties, a round (median of 5)", statistics.median(times[1:]), "s", 1.0,
                     note=note("large_round_s"))  # fmt: skip
    yield peak(outputs, "  all processes, peak (PSS)")


def peak(outputs: Path, name: str) -> Figure:
    """Return the memory of a whole lab while the large rounds run."""
    with Session.at_home(outputs / "deployed" / f"confs-{PARTIES[0]}") as session, PeakPss(outputs) as sampled:
        run_rounds(session, TWO_HOSTS, LARGE_BYTES, LARGE_ROUNDS)
    return Figure(
        name, sampled.mib, "MiB", 1.2e9 / MIB, note=f"{sampled.idle_mib:.0f} before; {note('large_peak_pss_bytes')}"
    )


def main() -> None:
    """Measure and print every figure."""
    os.environ.pop("FEDPARTY_HOME", None)
    with tempfile.TemporaryDirectory(prefix="fp-") as name:
        laboratory.INTERPRETER = str(environment_with_component(Path(name) / "venv"))
        with laboratory.lab("separate", []) as outputs:
            allow(outputs)
            show(list(measure(outputs)))
        with laboratory.lab("together", []) as outputs:
            allow(outputs)
            show([peak(outputs, "  the same, Python services of a party in one process")])


if __name__ == "__main__":
    main()
