"""Figures of a queue: 200 jobs submitted at once to a lab of two parties, and what that costs the flows' memory.

Run ``python benchmarks/many_jobs.py``; it starts a lab of its own in a temporary folder and stops it.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from figures import Figure, show
from lab import MIB, PARTIES, lab, processes_of

from fedparty.client import Session

JOBS = 200
WARM_UP = 40
SUBMITTERS = 8


def job(number: int) -> dict[str, object]:
    """Return a small job: a secure sum of both parties, with nothing that limits how many run but the cores."""
    return {
        "name": f"queue {number}",
        "roles": {"guest": [PARTIES[0]], "host": [PARTIES[1]]},
        "tasks": {"sum": {"component": "secure_sum", "parameters": {"data_num": 1000}}},
    }


def flow_mib(outputs: Path) -> float:
    """Return the proportional set size of both parties' flows, in MiB."""
    running = [process for party in PARTIES for process in processes_of(outputs, party)]
    flows = [process for process in running if "flow" in " ".join(process.cmdline())]
    assert flows, [process.cmdline() for process in running]
    return sum(process.memory_full_info().pss for process in flows) / MIB


def run_jobs(home: Path, count: int) -> tuple[float, float, Counter[str]]:
    """Submit jobs at once; return the seconds until all are accepted, until all have ended, and their states."""

    def submit(number: int) -> str:
        with Session.at_home(home) as session:
            return session.submit(job(number)).id

    begin = perf_counter()
    with ThreadPoolExecutor(SUBMITTERS) as pool:
        jobs = list(pool.map(submit, range(count)))
    accepted_s = perf_counter() - begin
    with Session.at_home(home) as session:
        states = Counter(session.wait(each, 300).state for each in jobs)
    return accepted_s, perf_counter() - begin, states


def main() -> None:
    """Measure and print every figure."""
    os.environ.pop("FEDPARTY_HOME", None)
    with lab("separate", []) as outputs:
        home = outputs / "deployed" / f"confs-{PARTIES[0]}"
        run_jobs(home, WARM_UP)
        before = flow_mib(outputs)
        accepted_s, all_s, states = run_jobs(home, JOBS)
        after = flow_mib(outputs)
    show(
        [
            Figure(f"{JOBS} jobs at once: succeeded", states["success"], "jobs", JOBS, is_minimum=True,
                   note=", ".join(f"{state}: {count}" for state, count in states.items())),
            Figure("  jobs a second, submit → end, two parties", JOBS / all_s, "jobs/s", 8, is_minimum=True),
            Figure("  until all are accepted", accepted_s, "s", note=f"{SUBMITTERS} submitters"),
            Figure("  growth of both flows (PSS)", after - before, "MiB", 16, note=f"from {before:.0f} MiB"),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
