"""Whatever befalls flows, workers and the calls between them, in any order: what must always hold, holds.

Never two live attempts of a task at a party; an end that is recorded stays; all parties tell the same end; every job
ends; nothing stays taken.
"""

from __future__ import annotations

import asyncio
import gc
import re
import sqlite3
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, closing
from typing import Any

import httpx
import pytest
from flow_faults import Fault
from flow_party import FlowLab, FlowParty, description, flow_lab
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fedparty.errors import FedpartyError
from fedparty.flow import background, launcher, notices, peers, service, site
from fedparty.flow.states import FINAL

CORES = 4.0
PATIENCE_S = 1.5
HEALED_S = 40.0
"""Within this every job ends once nothing is hurt any more."""
_METHODS = ("Prepare", "Start", "Stop", "Supervise", "Queue")
_TASKS = re.compile(r"^fedparty_mailbox_tasks ([0-9.]+)", re.MULTILINE)

NAMES = ("10000", "9999", "9998")
parties = st.sampled_from(NAMES)
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # who dies closes nothing
small = st.integers(0, 5)


class Federation(RuleBasedStateMachine):
    """Two flows, and what is done to them; what is drawn for a third party happens to the second."""

    names: tuple[str, ...] = NAMES[:2]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.jobs: list[str] = []
        self.ends: dict[tuple[str, str], str] = {}
        self.lab: FlowLab
        self.down: set[str] = set()
        self.away: set[str] = set()

    def tell(self, step: str) -> None:
        self.lab.faults.trace.append(f"-- {step}")

    def of(self, name: str) -> str:
        return name if name in self.names else self.names[-1]

    def do(self, work: Coroutine[Any, Any, Any], settle_s: float = 0.02) -> Any:
        """Let time pass for the federation: while something is done to it, and shortly after."""

        async def done() -> Any:
            result = await work
            await asyncio.sleep(settle_s)
            return result

        return self.runner.run(done())

    @initialize()
    def begin(self) -> None:
        lab = flow_lab(*self.names, cores=CORES, peer_timeout_s=PATIENCE_S)
        self.lab = self.runner.run(self.stack.enter_async_context(lab))

    def teardown(self) -> None:
        try:
            if hasattr(self, "lab"):
                self.runner.run(self._heal())
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()

    # What people do

    @rule(
        at=parties,
        component=st.sampled_from(["hang", "hang", "succeed", "hang_guest", "fail"]),
        cores=st.sampled_from([1, 2, 3]),
        priority=st.integers(0, 2),
        is_graph=st.booleans(),
        is_stopped=st.sampled_from([False, False, False, True]),
    )
    def submit(self, at: str, component: str, cores: int, priority: int, is_graph: bool, is_stopped: bool) -> None:
        at = self.of(at)
        if at in self.down or len(self.jobs) > 8:
            return
        guest = self.lab.parties[at]
        host, *arbiter = [name for name in self.names if name != at]
        job = description(component, guest=at, host=host, cores=cores, timeout_s=60) | {"priority": priority}
        job["roles"] |= {"arbiter": arbiter} if arbiter else {}
        if is_graph:
            job["tasks"]["then"] = {"component": component, "cores": 1, "after": ["sum"]}
        try:
            self.jobs.append(self.do(guest.submit(job), 0.0 if is_stopped else 0.02))
            self.tell(f"{self.jobs[-1]} is submitted: {component}, {cores} cores, priority {priority}")
        except FedpartyError as exc:
            self.tell(f"not submitted: {exc}")
            return
        if is_stopped:
            self.stop(at, len(self.jobs) - 1)

    @rule(at=parties, index=small)
    def stop(self, at: str, index: int) -> None:
        at = self.of(at)
        if at in self.down or not self.jobs:
            return
        job = self.jobs[index % len(self.jobs)]
        self.tell(f"{at} stops {job}")
        try:
            self.do(self.lab.parties[at].call(lambda session: session.stop(job)))
        except FedpartyError as exc:
            self.tell(f"not stopped: {exc}")

    # What becomes of tasks

    @rule(at=parties, index=small, state=st.sampled_from(["success", "success", "success", "failed"]))
    def end_task(self, at: str, index: int, state: str) -> None:
        at = self.of(at)
        worker = self.lab.parties[at].worker
        if worker.running:
            self.tell(f"{at}: {worker.running[index % len(worker.running)]} ends with {state}")
            self.do(worker.end_one(index % len(worker.running), state))

    # What breaks

    @rule(
        caller=parties,
        to=parties,
        method=st.sampled_from(_METHODS),
        faults=st.lists(st.sampled_from(Fault), min_size=1, max_size=5),
    )
    def hurt_calls(self, caller: str, to: str, method: str, faults: list[Fault]) -> None:
        for fault in faults:
            self.lab.faults.arm(self.of(caller), self.of(to), method, fault)

    @rule(index=small)
    def deliver_late(self, index: int) -> None:
        if self.lab.faults.held:
            self.do(self.lab.faults.deliver(index % self.lab.faults.held))

    @rule(at=parties, is_crash=st.booleans())
    def end_flow(self, at: str, is_crash: bool) -> None:
        at = self.of(at)
        if at not in self.down:
            party = self.lab.parties[at]
            self.tell(f"{at}'s flow {'dies' if is_crash else 'stops'}")
            self.do(party.crash_flow() if is_crash else party.stop_flow())
            self.down.add(at)

    @rule(at=parties)
    def start_flow(self, at: str) -> None:
        at = self.of(at)
        if at in self.down:
            self.tell(f"{at}'s flow starts")
            self.do(self.lab.parties[at].start_flow())
            self.down.discard(at)

    @rule(at=parties)
    def cut_streams(self, at: str) -> None:
        at = self.of(at)
        self.tell(f"{at}'s streams break")
        self.lab.parties[at].cut_streams()

    @rule(at=parties)
    def mailbox_restarts(self, at: str) -> None:
        at = self.of(at)
        self.tell(f"{at}'s mailbox restarts")
        self.do(self.lab.parties[at].restart_mailbox())

    @rule(at=parties)
    def worker_restarts(self, at: str) -> None:
        at = self.of(at)
        self.tell(f"{at}'s worker restarts")
        self.do(self.lab.parties[at].worker.restart())
        self.away.discard(at)

    @rule(at=parties)
    def worker_goes_away(self, at: str) -> None:
        at = self.of(at)
        self.tell(f"{at}'s worker goes away")
        self.do(self.lab.parties[at].worker.close())
        self.away.add(at)

    @rule(at=parties)
    def worker_comes_back(self, at: str) -> None:
        at = self.of(at)
        if at in self.away:
            party = self.lab.parties[at]
            self.tell(f"{at}'s worker comes back")
            self.do(party.worker.listen(party.settings.worker))
            self.away.discard(at)

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0]))
    def wait(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    # What holds

    @invariant()
    def no_task_lives_twice(self) -> None:
        for party in self._parties():
            assert not party.worker.doubles, self._told(party.worker.doubles)

    @invariant()
    def an_end_stays(self) -> None:
        for party in self._parties():
            for job, initiator, state, is_settled in _rows(party, "SELECT id, initiator, state, is_settled FROM jobs"):
                if state not in FINAL or not (initiator == party.party or is_settled):
                    continue
                known = self.ends.setdefault((party.party, job), state)
                assert known == state, self._told(f"{party.party}: {job} was {known}, is {state}")

    def _parties(self) -> list[FlowParty]:
        return [*self.lab.parties.values()] if hasattr(self, "lab") else []

    async def _heal(self) -> None:
        """Let nothing break any more, and every task end; then nothing may be left."""
        self.tell("all is healed")
        self.lab.faults.disarm()
        for at in sorted(self.away):
            party = self.lab.parties[at]
            await party.worker.listen(party.settings.worker)
        for at in sorted(self.down):
            await self.lab.parties[at].start_flow()
        while self.lab.faults.held:
            await self.lab.faults.deliver(0)
        loop = asyncio.get_running_loop()
        until = loop.time() + HEALED_S
        while left := await self._left():
            assert loop.time() < until, self._told(left)
            for party in self._parties():
                await party.worker.end_all("success")
            await asyncio.sleep(0.1)
        self.no_task_lives_twice()
        self.an_end_stays()

    async def _left(self) -> list[str]:
        """Return what is not over, in words."""
        left: list[str] = []
        known: dict[str, dict[str, str]] = {}
        for party in self._parties():
            me = party.party
            for job, state, is_held in _rows(party, "SELECT id, state, is_held FROM jobs"):
                known.setdefault(job, {})[me] = state
                left += [f"{me}: {job} is {state}"] if state not in FINAL else []
                left += [f"{me}: {job} is held"] if is_held else []
            left += [f"{me}: notice {row}" for row in _rows(party, "SELECT job, party FROM notices")]
            left += [f"{me}: runs {key}" for key in party.worker.running]
            tasks = await _registered(party)
            left += [f"{me}: {tasks} attempts at the mailbox"] if tasks else []
            free = await party.free_cores()
            left += [f"{me}: {free} cores free"] if free != CORES else []
        left += [f"{job} ended with {ends}" for job, ends in known.items() if len({*ends.values()}) > 1]
        return left + [f"{job} is forgotten" for job in self.jobs if job not in known]

    def _told(self, what: object) -> str:
        return "\n".join([str(what), *self._trace()])

    def _trace(self) -> list[str]:
        lines = [*self.lab.faults.trace]
        for party in self._parties():
            for table in ("jobs", "role_runs", "notices"):
                lines += [f"{party.party} {table}: {row}" for row in _rows(party, f"SELECT * FROM {table}")]
        return lines


class Three(Federation):
    """Three flows."""

    names = NAMES


def _rows(party: FlowParty, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(party.home / "data" / "flow.db")) as connection:
        return connection.execute(query).fetchall()


async def _registered(party: FlowParty) -> float:
    transport = httpx.AsyncHTTPTransport(uds=str(party.home / "run" / "federation-operations.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://mailbox") as client:
        found = _TASKS.search((await client.get("/metrics")).text)
    assert found is not None
    return float(found[1])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nobody wait long before asking again, and a crash leave no grace; what a crash left open is closed here."""
    for module in (background, launcher, notices, peers, site):
        monkeypatch.setattr(module, "_MAX_BACKOFF_S", 0.3)
    monkeypatch.setattr(service, "_GRACE_S", 0.0)
    yield
    gc.collect()


def _explore(machine: type[Federation], examples: int, steps: int, *, is_repeatable: bool) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=is_repeatable,
            database=None,
            phases=[Phase.generate],  # an example takes seconds: smaller ones would be looked for all day
            suppress_health_check=[*HealthCheck],
        ),
    )


@pytest.mark.usefixtures("quick")
def test_a_federation_in_which_anything_breaks() -> None:
    _explore(Federation, 4, 15, is_repeatable=True)


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("machine", [Federation, Three])
def test_a_federation_in_which_everything_breaks(machine: type[Federation]) -> None:
    _explore(machine, 40, 60, is_repeatable=False)
