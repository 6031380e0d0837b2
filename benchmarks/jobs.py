"""Figures of the job commands: `job list` as a process, the smallest job, and listing when many jobs are stored.

Run ``python benchmarks/jobs.py``; it starts a lab of its own in a temporary folder and stops it.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import sys
from pathlib import Path
from time import perf_counter

from beside import note
from figures import Figure, median_s, show
from lab import PARTIES, lab, run

from fedparty.client import Session
from fedparty.jobs import folder
from fedparty.settings import FlowSettings, load

STORED = 10_000
CALLS = 1_000
RUNS = 20


def job() -> dict[str, object]:
    """Return the smallest job: the secure sum of the example's folder."""
    repository = Path(__file__).resolve().parent.parent
    return folder.read(repository / "examples" / "secure_sum").model_dump(mode="json", exclude_defaults=True)


def store_many(home: Path) -> None:
    """Copy the newest job, which has ended, until there are as many as wanted; the copies are older."""
    url = load(FlowSettings, home / "bundle/flow/settings.json").database_url
    with sqlite3.connect(home / url.removeprefix("sqlite+aiosqlite:///")) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(jobs)")]
        newest = database.execute(f"SELECT {', '.join(columns)} FROM jobs ORDER BY created_at DESC LIMIT 1").fetchone()
        row = dict(zip(columns, newest, strict=True)) | {"submission": None}  # the key of one request, so of one job
        rows = [
            row | {"id": f"{row['initiator']}-{number:026d}", "created_at": row["created_at"] - number}
            for number in range(1, STORED + 1)
        ]
        places = ", ".join(f":{column}" for column in columns)
        database.executemany(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({places})", rows)
    database.close()


def call_times_s(session: Session) -> list[float]:
    """Return how long each of many lists took."""
    times = []
    for _ in range(CALLS):
        began = perf_counter()
        assert len(session.jobs()) == 100
        times.append(perf_counter() - began)
    return times


def main() -> None:
    """Measure and print every figure."""
    os.environ.pop("FEDPARTY_HOME", None)
    with lab("separate", []) as outputs:
        home = outputs / "deployed" / f"confs-{PARTIES[0]}"
        with Session.at_home(home) as session:
            smallest = job()
            submit = lambda: session.wait(session.submit(smallest).id, 60).require_success()  # noqa: E731 - timed below
            submit()
            job_s = median_s(submit, RUNS)
            store_many(home)
            times = call_times_s(session)
        list_s = median_s(lambda: run("-m", "fedparty", "job", "list", "--home", str(home)), RUNS)
        start_s = median_s(lambda: run("-c", "pass"), RUNS)
    show(
        [
            Figure("smallest job, two parties, submit → success, median of 20", job_s, "s", 0.5,
                   note=note("job_s")),
            Figure("fedparty job list, whole process, median of 20", list_s, "s", 0.4,
                   note=f"{note('list_s')}; Python {sys.version_info[0]}.{sys.version_info[1]} alone {start_s:.2g} s"),
            Figure(f"REST: {CALLS} × job list over {STORED} stored jobs, p99",
                   statistics.quantiles(times, n=100)[98] * 1000, "ms", 50,
                   note=f"median {statistics.median(times) * 1000:.2g} ms"),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
