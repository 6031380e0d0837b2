"""Figures of two job servers: how long people and other parties wait when the one that leads is gone.

Run ``python benchmarks/failover.py``; it starts a MariaDB and a lab of its own in a temporary folder and stops them.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from figures import Figure, show
from mariadb import MariaDb
from two_flows import Failover, TwoFlows, description, two_flows

KILLS = 10
ENDS = 5
TAKEOVER_S, ROUTING_MS, HANDOVER_S = 5.0, 500.0, 2.0


def measured(party: TwoFlows, number: signal.Signals, runs: int) -> list[Failover]:
    """Send the leader a signal again and again, each time with a job that runs and must end well."""
    found = []
    for _ in range(runs):
        party.lab.wait_healthy(party.party)
        with party.session() as session:
            job = session.submit(description("failover", data_num=1_000_000, partition=20)).id
            found.append(party.fail_over(number))
            session.wait(job, 60).require_success()
    return found


def main() -> None:
    """Measure and print every figure."""
    with tempfile.TemporaryDirectory(prefix="fp-") as name:
        folder = Path(name)
        (folder / "database").mkdir()
        (folder / "lab").mkdir()
        database = MariaDb(folder / "database")
        database.start()
        try:
            with two_flows(folder / "lab", database) as party:
                killed = measured(party, signal.SIGKILL, KILLS)
                ended = measured(party, signal.SIGTERM, ENDS)
        finally:
            database.stop()
    totals = [each.total_s for each in killed]
    routed = [each.routed_s * 1000 for each in (*killed, *ended)]
    show(
        [
            Figure(f"kill -9 of the leader → REST of the other one, median of {KILLS}", statistics.median(totals), "s",
                   TAKEOVER_S, note="a lease of 2 s must run out first"),
            Figure(f"the same, longest of {KILLS}", max(totals), "s", TAKEOVER_S),
            Figure("the new leader serves → the proxy leads there, longest", max(routed), "ms", ROUTING_MS,
                   note=f"median {statistics.median(routed):.0f} ms"),
            Figure(f"leader ended in order → REST of the other one, median of {ENDS}",
                   statistics.median([each.total_s for each in ended]), "s", HANDOVER_S),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
