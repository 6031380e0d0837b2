"""How long parties.conf -> signed bundles and archives takes, as whole processes of ``generate_config.py``.

Owns its figures. Everything happens in one temporary folder, which is removed at the very end: ext4 creates files many
times slower for minutes after many were deleted.
"""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from figures import Figure, median_s, show

PROGRAM = Path(__file__).resolve().parents[1] / "generate_config.py"
LIMIT_2_S, LIMIT_500_S, LIMIT_ADDED_S = 0.6, 6.0, 1.5
LINEAR = 1.25
RUNS = 7
SIZES = (100, 250, 500)


class Federation:
    """A parties.conf and its outputs.

    Parameters
    ----------
    root
        Folder that takes a new folder for them.
    has_exchange
        Whether the parties meet at an exchange, or all reach all.
    """

    def __init__(self, root: Path, *, has_exchange: bool) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=root))
        self._outputs = self._folder / "outputs"
        self._exchange = "exchange_ip=10.0.0.1\n" if has_exchange else ""

    def generate(self, parties: int) -> float:
        """Run the program for this many parties and return its wall time in seconds."""
        ids = range(10_000, 10_000 + parties)
        addresses = [f"10.1.{number // 250}.{1 + number % 250}" for number in range(parties)]
        lists = f"party_list=({' '.join(map(str, ids))})\nparty_ip_list=({' '.join(addresses)})\n"
        (self._folder / "parties.conf").write_text(f"engine=process\n{self._exchange}{lists}")
        start = perf_counter()
        subprocess.run([sys.executable, PROGRAM], cwd=self._folder, check=True, stdout=subprocess.DEVNULL)
        return perf_counter() - start

    def files_of_parties(self) -> dict[Path, tuple[int, str]]:
        """Return time of change and SHA-256 of all that belongs to parties: kept files, bundles, archives."""
        patterns = ("parties/[0-9]*/*", "confs-[0-9]*/**/*", "confs-[0-9]*.tar.gz")
        paths = [path for pattern in patterns for path in self._outputs.glob(pattern) if path.is_file()]
        return {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}

    def size_mib(self, party: int) -> float:
        """Return the size of one bundle in MiB."""
        bundle = self._outputs / f"confs-{party}"
        return sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) / 2**20


def measure_two(root: Path) -> Iterator[Figure]:
    """Two parties: with keys and certificates to make, and again with nothing to do."""
    name = "generate_config.py, 2 parties, whole process"
    fresh = [Federation(root, has_exchange=False) for _ in range(RUNS)]
    seconds = statistics.median(each.generate(2) for each in fresh)
    note = f"median of {RUNS}, keys and certificates made; KubeFATE 0.5-0.9 s without certificates, FLARE 0.7 s"
    yield Figure(name, seconds, "s", LIMIT_2_S, note=note)
    yield Figure(f"{name}, nothing to do", median_s(lambda: fresh[0].generate(2), RUNS), "s", LIMIT_2_S)


def measure_growth(root: Path) -> Iterator[Figure]:
    """Through an exchange: the time may grow with the number of parties, and no faster; then one party more."""
    federations = {parties: Federation(root, has_exchange=True) for parties in SIZES}
    seconds = {parties: each.generate(parties) for parties, each in federations.items()}
    for parties in SIZES:
        is_last = parties == SIZES[-1]
        limit, note = (LIMIT_500_S, "FLARE 21.2 s") if is_last else (None, "")
        yield Figure(
            f"{parties} parties through an exchange, archives included", seconds[parties], "s", limit, note=note
        )
    ratio = (seconds[SIZES[-1]] / SIZES[-1]) / (seconds[SIZES[0]] / SIZES[0])
    yield Figure(f"seconds a party, {SIZES[-1]} : {SIZES[0]} parties", ratio, "", LINEAR, note="1 is linear growth")
    yield from measure_added(federations[SIZES[-1]], SIZES[-1])


def measure_added(known: Federation, parties: int) -> Iterator[Figure]:
    """One party more: nobody else's keys, certificates, bundle or archive may be touched."""
    before = known.files_of_parties()
    yield Figure(f"one party added to {parties}", known.generate(parties + 1), "s", LIMIT_ADDED_S, note="FLARE 15.0 s")
    after = known.files_of_parties()
    touched = sum(after.get(path) != state for path, state in before.items())
    yield Figure("files of the other parties touched by that", touched, "files", 0, note=f"of {len(before)}")
    yield Figure(f"{parties + 1} parties, nothing to do", known.generate(parties + 1), "s", LIMIT_ADDED_S)


def measure_mesh(root: Path) -> Iterator[Figure]:
    """All reach all: only the route tables grow, each with the number of parties."""
    for parties in SIZES:
        mesh = Federation(root, has_exchange=False)
        seconds = mesh.generate(parties)
        note = f"a bundle has {mesh.size_mib(10_000):.2f} MiB"
        yield Figure(f"{parties} parties in full mesh, archives included", seconds, "s", note=note)


def main() -> int:
    """Print every figure; 1 if one falls short."""
    is_reached = True
    with tempfile.TemporaryDirectory(prefix="fedparty-bench-") as folder:
        for measure in (measure_two, measure_growth, measure_mesh):
            for figure in measure(Path(folder)):
                show([figure])
                is_reached = is_reached and figure.is_reached
    return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
