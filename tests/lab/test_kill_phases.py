"""kill -9 of each service in each phase of a job: every job ends, no task has run twice in vain, the sum is right.

A phase is held by stopping (SIGSTOP) the process that it waits for, so the blow always falls into it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import psutil
import pytest
from laboratory import Laboratory, laboratory

from fedparty.client import JobStatus, Session
from fedparty.errors import FedpartyError

GUEST, HOST = "10000", "9999"
VALUES = 1_000_000
WAIT_S = 60.0
"""Generous: a phase is reached, and what was killed is started again, within a few seconds."""

VICTIMS = ((GUEST, "flow"), (HOST, "flow"), (GUEST, "worker"), (HOST, "worker"), (HOST, "task"))
CI = {("preparing", HOST, "flow"), ("running", HOST, "worker"), ("reporting", GUEST, "flow")}

Value = TypeVar("Value")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # httpcore: where nobody listens

Hold = Callable[["Case"], None]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("phases"), options={"cores": "1"}) as lab:
        lab.up("--no-verify")
        yield lab


class Case:
    """A job, and what is held in its way."""

    def __init__(self, lab: Laboratory, stack: ExitStack) -> None:
        self.lab = lab
        self.stack = stack
        self.jobs: list[str] = []
        self.expected = "success"

    def submit(self) -> str:
        job = {
            "name": "phases",
            "roles": {"guest": [GUEST], "host": [HOST]},
            "timeout_s": 120,
            "tasks": {"sum": {"component": "secure_sum", "cores": 1, "parameters": {"data_num": VALUES}}},
        }
        with Session.at_home(self.lab.home(GUEST)) as session:
            self.jobs.append(session.submit(job).id)
        return self.jobs[-1]

    def hold(self, pid: int) -> None:
        """Stop a process until the blow has fallen."""
        self.stack.enter_context(_stopped(pid))

    def hold_service(self, party: str, service: str) -> None:
        self.hold(self.lab.pid(party, service))

    def run_and_hold_the_host(self) -> psutil.Process:
        """Return the host's process of a job that runs; it is stopped."""
        self.submit()
        task = until(lambda: next(iter(self.lab.tasks(HOST)), None), "the host's task")
        self.hold(task.pid)
        return task

    def show(self, party: str, job: str) -> JobStatus | None:
        with suppress(FedpartyError), Session.at_home(self.lab.home(party)) as session:
            return session.job(job)
        return None

    def until_shown(self, party: str, job: str, is_so: Callable[[JobStatus], bool]) -> JobStatus:
        def shown() -> JobStatus | None:
            status = self.show(party, job)
            return status if status is not None and is_so(status) else None

        return until(shown, f"job {job} at party {party}")


def queued(case: Case) -> None:
    case.run_and_hold_the_host()
    job = case.submit()
    until(lambda: _says(case.lab, job, "waits:"), "a job that waits")


def preparing(case: Case) -> None:
    case.hold_service(HOST, "flow")
    job = case.submit()
    case.until_shown(GUEST, job, lambda status: bool(status.tasks))


def prepared(case: Case) -> None:
    case.hold_service(HOST, "worker")
    job = case.submit()
    case.until_shown(HOST, job, lambda status: bool(status.tasks))
    case.until_shown(GUEST, job, lambda status: "running" in {task.state for task in status.tasks})


def running(case: Case) -> None:
    case.run_and_hold_the_host()
    case.until_shown(GUEST, case.jobs[0], lambda status: {task.state for task in status.tasks} == {"running"})


def reporting(case: Case) -> None:
    task = case.run_and_hold_the_host()
    case.hold_service(HOST, "flow")
    task.send_signal(signal.SIGCONT)
    until(lambda: not case.lab.tasks(HOST), "the end of the host's task")


def ending(case: Case) -> None:
    case.run_and_hold_the_host()
    case.until_shown(GUEST, case.jobs[0], lambda status: status.state == "running")
    case.hold_service(HOST, "flow")
    case.expected = "canceled"
    with Session.at_home(case.lab.home(GUEST)) as session:
        assert session.stop(case.jobs[0]).state == "canceled"


PHASES: dict[str, Hold] = {
    "queued": queued,
    "preparing": preparing,
    "prepared": prepared,
    "running": running,
    "reporting": reporting,
    "ending": ending,
}


def _cases() -> Iterator[Any]:
    for phase in PHASES:
        for party, victim in VICTIMS:
            if victim == "task" and phase not in ("queued", "running", "ending"):
                continue  # there is none
            marks = () if (phase, party, victim) in CI else (pytest.mark.matrix,)
            yield pytest.param(phase, party, victim, id=f"{phase}-{party}-{victim}", marks=marks)


@pytest.mark.parametrize(("phase", "party", "victim"), [*_cases()])
def test_kill_9_in_a_phase(lab: Laboratory, phase: str, party: str, victim: str) -> None:
    with ExitStack() as stack:
        case = Case(lab, stack)
        PHASES[phase](case)
        lab.kill(party, victim)
    for job in case.jobs:
        ended = case.until_shown(GUEST, job, lambda status: status.is_final)
        assert ended.state == case.expected, ended.verdict
        if ended.state == "success":
            assert ended.result("sum", "guest") == {"secure_sum": 2.0 * VALUES}
        assert case.until_shown(HOST, job, lambda status: status.is_final).state == ended.state
        _check_attempts(ended)
    until(lambda: not lab.tasks(GUEST) and not lab.tasks(HOST), "the end of all tasks")
    until(lambda: all(_is_idle(lab, each) for each in lab.parties), "free cores")
    lab.wait_healthy()


def _check_attempts(ended: JobStatus) -> None:
    """Make sure that each attempt but the last was lost, so that none ran beside or after a good one."""
    last = max(task.attempt for task in ended.tasks)
    for attempt in range(1, last):
        states = {task.state for task in ended.tasks if task.attempt == attempt}
        assert "lost" in states, ended.tasks


def _is_idle(lab: Laboratory, party: str) -> bool:
    with suppress(FedpartyError), Session.at_home(lab.home(party)) as session:
        return session.party().free_cores == 1
    return False


def _says(lab: Laboratory, job: str, words: str) -> bool:
    return any(job in line and words in line for line in lab.log(GUEST, "flow").splitlines())


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def until(ask: Callable[[], Value | None], what: str) -> Value:
    """Return the first answer that is one."""
    deadline = time.monotonic() + WAIT_S
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"in vain waited for: {what}"
        time.sleep(0.05)
    return answer
