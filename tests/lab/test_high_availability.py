"""Two job servers of one party: whichever is hurt, jobs go on, none is lost or there twice, and one leads at a time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from laboratory import SUCCESS
from mariadb import MariaDb
from two_flows import FLOWS, TwoFlows, description, two_flows, until

from fedparty.client import Session

TAKEOVER_LIMIT_S = 10.0
JOB_LIMIT_S = 60.0
LONG = {"data_num": 2_000_000, "partition": 40}


@pytest.fixture(scope="module")
def party(mariadb_server: MariaDb, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoFlows]:
    with two_flows(tmp_path_factory.mktemp("ha"), mariadb_server) as found:
        yield found


@pytest.fixture(autouse=True)
def _sound_before_and_after(party: TwoFlows) -> Iterator[None]:
    party.lab.wait_healthy()
    yield
    party.lab.wait_healthy()
    assert [party.is_leader(flow) for flow in FLOWS].count(True) == 1


class Submitter:
    """A person who submits small jobs, one after the other, until told to end; every one counts."""

    def __init__(self, party: TwoFlows, name: str) -> None:
        self._party = party
        self._name = name
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._submit)
        self.jobs: list[str] = []
        self.failure: Exception | None = None

    def __enter__(self) -> Submitter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _submit(self) -> None:
        try:
            with self._party.session() as session:
                while not self._end.wait(0.1):
                    self.jobs.append(session.submit(description(self._name, data_num=10)).id)
        except Exception as exc:  # noqa: BLE001 - the test tells
            self.failure = exc


def assert_none_lost_or_doubled(session: Session, submitter: Submitter, name: str) -> None:
    assert submitter.failure is None
    for job in submitter.jobs:
        session.wait(job, JOB_LIMIT_S).require_success()
    listed = [job.id for job in session.jobs(limit=1000) if job.name == name]
    assert sorted(listed) == sorted(submitter.jobs)


def test_a_leader_is_killed_while_jobs_run_and_people_submit(party: TwoFlows) -> None:
    before = party.leader()
    with party.session() as session:
        long = session.submit(description("long", **LONG)).id
        with Submitter(party, "kill") as submitter:
            until(lambda: len(submitter.jobs) >= 2, "jobs are submitted")
            taken = party.fail_over()
            known = len(submitter.jobs)
            until(lambda: len(submitter.jobs) >= known + 2, "jobs are submitted again")
        print(taken)
        assert taken.total_s < TAKEOVER_LIMIT_S
        assert_none_lost_or_doubled(session, submitter, "kill")
        ended = session.wait(long, JOB_LIMIT_S).require_success()
        assert {task.attempt for task in ended.tasks} == {1}  # it was adopted, not begun again
    assert party.leader() != before


def test_a_leader_that_stood_still_changes_nothing_when_it_wakes(party: TwoFlows) -> None:
    sleeper = party.leader()
    pid = party.lab.pid(party.party, sleeper)
    try:
        with party.session() as session:
            long = session.submit(description("asleep", **LONG)).id
            taken = party.fail_over(signal.SIGSTOP)
            assert taken.total_s < TAKEOVER_LIMIT_S
            session.wait(long, JOB_LIMIT_S).require_success()
            session.wait(session.submit(description("meanwhile")).id, JOB_LIMIT_S).require_success()
            before = party.state()
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: party.lab.control(party.party, "status").count("RUNNING") == 5, "all run")
    until(lambda: party.lab.pid(party.party, sleeper) != pid, "the one that slept has ended and was started again")
    party.lab.wait_healthy()
    assert party.state() == before
    assert party.leader() != sleeper


def test_another_number_of_job_servers_is_a_deploy(party: TwoFlows) -> None:
    lab = party.lab
    options = lab.own_options[party.party]
    quiet = ("federation", "worker")
    before = {service: lab.pid(party.party, service) for service in quiet}
    for count in ("1", "2"):
        lab.own_options[party.party] = {**options, "flow_replicas": count}
        lab.up("--no-verify", parties=party.party)
        assert ("flow-2" in lab.control(party.party, "status")) is (count == "2")
        assert lab.toy(*lab.parties, "1").stdout.count(SUCCESS) == 1
        assert {service: lab.pid(party.party, service) for service in quiet} == before


@pytest.mark.matrix
def test_a_deploy_starts_one_after_the_other_anew(party: TwoFlows) -> None:
    lab = party.lab
    options = lab.own_options[party.party]
    before = {flow: lab.pid(party.party, flow) for flow in FLOWS}
    lab.own_options[party.party] = {**options, "max_attempts": "4"}
    with party.session() as session, Submitter(party, "deploy") as submitter:
        until(lambda: submitter.jobs, "a job is submitted")
        lab.up("--no-verify", parties=party.party)
    with party.session() as session:
        assert_none_lost_or_doubled(session, submitter, "deploy")
    assert not {lab.pid(party.party, flow) for flow in FLOWS} & set(before.values())


def test_status_says_who_leads(party: TwoFlows) -> None:
    said = party.lab.deploy("status", party.party)
    assert said.returncode == 0, said.stdout
    assert said.stdout.count("healthy, leader") == said.stdout.count("healthy, standby") == 1
    examined = party.lab.deploy("doctor", party.party)
    assert examined.returncode == 0, examined.stdout  # whichever of them leads


@pytest.mark.matrix
def test_a_standby_is_killed(party: TwoFlows) -> None:
    leader = party.leader()
    with party.session() as session, Submitter(party, "standby") as submitter:
        until(lambda: submitter.jobs, "a job is submitted")
        party.send(party.standby(), signal.SIGKILL)
        party.lab.wait_healthy()
    with party.session() as session:
        assert_none_lost_or_doubled(session, submitter, "standby")
    assert party.leader() == leader


@pytest.mark.matrix
def test_both_are_killed(party: TwoFlows) -> None:
    with Submitter(party, "both") as submitter:
        until(lambda: submitter.jobs, "a job is submitted")
        for flow in FLOWS:
            party.send(flow, signal.SIGKILL)
        party.lab.wait_healthy()
    with party.session() as session:
        assert_none_lost_or_doubled(session, submitter, "both")


@pytest.mark.matrix
def test_the_database_restarts(party: TwoFlows, mariadb: MariaDb) -> None:
    with party.session() as session:
        long = session.submit(description("database", **LONG)).id
        with Submitter(party, "restart") as submitter:
            until(lambda: submitter.jobs, "a job is submitted")
            mariadb.restart()
            party.lab.wait_healthy()
        assert_none_lost_or_doubled(session, submitter, "restart")
        session.wait(long, JOB_LIMIT_S).require_success()


@pytest.mark.matrix
@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_a_leader_is_killed_at_any_moment_of_a_job(party: TwoFlows, delay_s: float) -> None:
    party.lab.wait_healthy()
    with party.session() as session:
        job = session.submit(description(f"moment {delay_s}")).id
        time.sleep(delay_s)
        party.fail_over()
        session.wait(job, JOB_LIMIT_S).require_success()


@pytest.mark.matrix
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTERM], ids=["stopped", "ended"])
def test_leaders_change_again_and_again(party: TwoFlows, number: signal.Signals) -> None:
    with party.session() as session, Submitter(party, f"often {number}") as submitter:
        for _ in range(4):
            pid = party.lab.pid(party.party, party.leader())
            party.fail_over(number)
            if number == signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
            party.lab.wait_healthy()
    with party.session() as session:
        assert_none_lost_or_doubled(session, submitter, f"often {number}")
