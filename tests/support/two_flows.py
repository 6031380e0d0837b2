"""A lab of which one party has two job servers, on a MariaDB over TLS, and what is done to its leader.

Owns who leads, as the job servers say it, and hurting them. Does not own what is expected of it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laboratory import REPOSITORY, Laboratory, laboratory
from mariadb import PASSWORD, USER, MariaDb

from fedparty.client import Session
from fedparty.jobs import folder

FLOWS = ("flow", "flow-2")
LIMIT_S = 60.0
_POLL_S = 0.01


@dataclass(frozen=True)
class Failover:
    """Seconds until another job server leads, from then until it serves, and from then until the proxy leads there."""

    elected_s: float
    serving_s: float
    routed_s: float

    @property
    def total_s(self) -> float:
        """How long people and parties waited."""
        return self.elected_s + self.serving_s + self.routed_s

    def __str__(self) -> str:
        return (
            f"{self.total_s:.2f} s: another job server leads after {self.elected_s:.2f} s, "
            f"serves {self.serving_s:.2f} s later, and is reached {self.routed_s:.2f} s after that"
        )


class TwoFlows:
    """The party with two job servers.

    Parameters
    ----------
    lab
        Where it is the guest.
    database, database_name
        Where its jobs are.
    """

    def __init__(self, lab: Laboratory, database: MariaDb, database_name: str) -> None:
        self.lab = lab
        self.database = database
        self.database_name = database_name
        self.party = lab.parties[0]
        self.home = lab.home(self.party)

    @property
    def _run(self) -> Path:
        return Path(os.path.realpath(self.home / "run"))

    def is_leader(self, flow: str) -> bool:
        """Ask a job server whether it leads."""
        return self._answers(f"flow-{FLOWS.index(flow) + 1}-operations.sock", "/leader")

    def is_reached(self) -> bool:
        """Ask for REST where people do."""
        return self._answers("flow-rest.sock", "/healthz")

    def leader(self) -> str:
        """Return who leads; waits for it."""
        return until(lambda: next((flow for flow in FLOWS if self.is_leader(flow)), ""), "a job server leads")

    def standby(self) -> str:
        """Return who does not lead."""
        return next(flow for flow in FLOWS if flow != self.leader())

    def send(self, flow: str, number: signal.Signals) -> int:
        """Send a job server a signal; returns its process."""
        pid = self.lab.pid(self.party, flow)
        os.kill(pid, number)
        return pid

    def fail_over(self, number: signal.Signals = signal.SIGKILL) -> Failover:
        """Send the leader a signal, and return how long the other one took."""
        leader = self.leader()
        other = next(flow for flow in FLOWS if flow != leader)
        pid = self.lab.pid(self.party, leader)
        own = f"flow-{FLOWS.index(other) + 1}"
        until(lambda: self._answers(f"{own}-operations.sock", "/readyz"), f"{other} is ready")
        times = [time.monotonic()]
        os.kill(pid, number)
        for condition in (
            lambda: self.is_leader(other),
            lambda: self._answers(f"{own}-rest.sock", "/healthz"),
            self.is_reached,
        ):
            until(condition, f"{other} leads, serves, is reached")
            times.append(time.monotonic())
        return Failover(*(later - earlier for earlier, later in itertools.pairwise(times)))

    def session(self) -> Session:
        """Open a session as the party's own person."""
        return Session.at_home(self.home)

    def state(self) -> list[tuple[Any, ...]]:
        """Return what the database says of jobs, of what ran for them, and of who leads."""
        questions = (
            "SELECT id, state, error FROM jobs ORDER BY id",
            "SELECT * FROM role_runs ORDER BY job, task, attempt, role, party",
            "SELECT * FROM epochs",
        )
        with self.database.admin(self.database_name) as cursor:
            found: list[tuple[Any, ...]] = []
            for question in questions:
                cursor.execute(question)
                found += cursor.fetchall()
            return found

    def _answers(self, name: str, path: str) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self._run / name))
                connection.sendall(f"GET {path} HTTP/1.1\r\nhost: flow\r\nconnection: close\r\n\r\n".encode())
                return connection.recv(12) == b"HTTP/1.1 200"
            except OSError:
                return False


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return what `condition` returns as soon as that is true."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not seen within {LIMIT_S:g} s: {what}"
        time.sleep(_POLL_S)
    return found


def description(name: str, **parameters: int) -> dict[str, Any]:
    """Return the example's job under a name, with these parameters changed."""
    found = folder.read(REPOSITORY / "examples" / "secure_sum").model_dump(mode="json", exclude_defaults=True)
    task = found["tasks"]["sum"]
    return found | {
        "name": name,
        "timeout_s": 120,
        "tasks": {"sum": task | {"parameters": task["parameters"] | parameters}},
    }


@contextlib.contextmanager
def two_flows(place: Path, database: MariaDb, flow_replicas: int = 2) -> Iterator[TwoFlows]:
    """Run a lab of two parties, of which the first one has two job servers."""
    name = database.create()
    shared = {
        "flow_replicas": str(flow_replicas),
        "mysql_ip": "127.0.0.1",
        "mysql_port": str(database.port),
        "mysql_user": USER,
        "mysql_password": '"' + PASSWORD.replace("\\", "\\\\") + '"',
        "mysql_db": name,
        "mysql_ca": str(database.ca),
    }
    with laboratory(place, own_options={"10000": shared}) as lab:
        lab.up("--no-verify")
        yield TwoFlows(lab, database, name)
