"""One job from its first task to its last, as its initiator drives it.

Owns the order of tasks, their attempts, and the verdict. Does not own recording the verdict or telling it
(`scheduler`). Every step may be repeated, so a restarted initiator simply runs the job again: what was done is answered
the same, what runs is supervised again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from fedparty.errors import JobError, RpcError
from fedparty.flow.background import until_read, until_recorded
from fedparty.flow.peers import Peers
from fedparty.flow.places import Places
from fedparty.flow.records import Job, Outcome, RoleRun
from fedparty.flow.resources import rank_of
from fedparty.flow.states import FINAL, State
from fedparty.flow.store import Store
from fedparty.flow.turns import Turns
from fedparty.types import JobId, Member, PartyId, TaskRun

logger = logging.getLogger(__name__)

_TIMEOUT_HINT = "Look at the log of the role that still ran, or give the job more time: timeout_s."
_LOST_HINT = "Look at the worker services of the job's parties: deploy.py status, deploy.py logs."


class _Ended(Exception):
    """A role ended without success, so the attempt has."""

    def __init__(self, run: TaskRun, member: Member, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.run = run
        self.member = member
        self.outcome = outcome

    def verdict(self) -> Outcome:
        """Return what becomes of the job."""
        where = f"{self.member.role} at party {self.member.party}, task {self.run.task}"
        state = State.FAILED if self.outcome.state is State.LOST else self.outcome.state
        where += f", attempt {self.run.attempt}" if self.run.attempt > 1 else ""
        return Outcome(state, f"{where}: {self.outcome.error or self.outcome.state}", self.outcome.hint)


class JobRun:
    """A job while it runs.

    Parameters
    ----------
    job
        What is to be done.
    party
        The initiator: this party, whose own roles are in the database already when they are reported.
    store, peers
        Its database, and the way to every party.
    turns
        Where the party's own tasks wait until they may ask for resources.
    max_attempts
        How often a task is tried whose processes are lost, unless it says so itself.
    """

    def __init__(self, job: Job, party: PartyId, store: Store, peers: Peers, turns: Turns, max_attempts: int) -> None:
        self._job = job
        self._party = party
        self._store = store
        self._peers = peers
        self._turns = turns
        self._max_attempts = max_attempts
        self._waits_for = ""

    async def run(self) -> Outcome:
        """Run every task, each as soon as those before it have succeeded; return how the job ended.

        Raises
        ------
        RpcError
            A party refused its part, or was not reached in time.
        JobError
            Every attempt of a task was lost.
        """
        try:
            async with asyncio.timeout(self._job.deadline_at - time.time()):
                await self._run_tasks()
        except TimeoutError:
            return self._timed_out()
        except _Ended as exc:
            return exc.verdict()
        finally:
            self._peers.forget(self._job.id)
        return Outcome(State.SUCCESS)

    def _timed_out(self) -> Outcome:
        """Return the verdict at the deadline, with what the job was waiting for."""
        error = f"the job did not end within {self._job.deadline_at - self._job.created_at:.6g} s"
        if unanswered := self._peers.unanswered(self._job.id):
            return Outcome(State.TIMEOUT, f"{error}; {unanswered.message}", unanswered.hint)
        waited = f"; it waited for resources: {self._waits_for}" if self._waits_for else ""
        return Outcome(State.TIMEOUT, error + waited, _TIMEOUT_HINT)

    async def _run_tasks(self) -> None:
        if resume := self._job.description.resume:
            taken_over = self._job.description.taken_over
            await until_recorded(lambda: self._store.take_over(JobId(resume.job), self._job.id, taken_over))
        known = await until_read(lambda: self._store.role_runs(self._job.id))
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._job.description.sorter().static_order():
                    before = [tasks[other] for other in self._job.description.tasks[name].after]
                    runs = [role for role in known if role.run.task == name]
                    tasks[name] = group.create_task(self._run_task(name, before, runs))
        except ExceptionGroup as exc:
            raise exc.exceptions[0] from None

    async def _run_task(self, name: str, before: list[asyncio.Task[None]], known: list[RoleRun]) -> None:
        for task in before:
            await asyncio.shield(task)
        attempt = max((role.run.attempt for role in known), default=1)
        states = {role.state for role in known if role.run.attempt == attempt}
        if states == {State.SUCCESS}:
            return
        if any(self._may_help(name, state) for state in states):
            await self._abandon(TaskRun(self._job.id, name, attempt), "the attempt is lost")
            attempt, states = attempt + 1, set()
        await self._attempts(name, attempt, has_started=bool(states) and State.WAITING not in states)

    def _may_help(self, name: str, state: State) -> bool:
        """Return whether another attempt may help where a role ended so: it was lost, or took too long for one."""
        has_limit = self._job.description.tasks[name].timeout_s is not None
        return state is State.LOST or (state is State.TIMEOUT and has_limit)

    async def _attempts(self, name: str, first: int, *, has_started: bool) -> None:
        """Try a task until an attempt ends with what another would not change."""
        last = self._job.description.tasks[name].retries or self._max_attempts
        for attempt in range(first, last + 1):
            run = TaskRun(self._job.id, name, attempt)
            try:
                await self._attempt(run, has_started=has_started)
                return
            except _Ended as exc:
                if not self._may_help(name, exc.outcome.state) or attempt == last:
                    raise
                logger.warning("attempt %d of task %s is lost: %s", attempt, name, exc.outcome.error)
                await self._abandon(run, f"the attempt is lost: {exc.outcome.error}")
            has_started = False
        raise JobError(f"task {name} was lost in all {last} attempts", hint=_LOST_HINT)

    async def _attempt(self, run: TaskRun, *, has_started: bool) -> None:
        if not has_started:
            await until_recorded(lambda: self._store.begin_attempt(run, self._job.description.members))
            await self._prepare(run)
            await self._at_all(lambda party: self._peers.start(party, run))
            await until_recorded(lambda: self._store.started(run))
        await self._at_all(lambda party: self._supervise(party, run))

    async def _prepare(self, run: TaskRun) -> None:
        """Prepare everywhere or nowhere: while one party's resources are taken, nobody's are held."""
        parties = self._job.description.parties
        self._waits_for = "its turn among the jobs of this party"
        async with self._turns.turn(rank_of(self._job, run), parties) as turn:

            def note(words: dict[PartyId, str]) -> None:
                self._waits_for = "; ".join(words.values())
                self._turns.waits(turn, words)

            is_prepared = not turn.waits_at and await self._try_prepare(run, note)
            while not is_prepared:
                async with Places(self._peers, self._job, run, note) as places:
                    await places.turn()
                    is_prepared = await self._try_prepare(run, note)
        self._waits_for = ""

    async def _try_prepare(self, run: TaskRun, note: Callable[[dict[PartyId, str]], None]) -> bool:
        """Return whether every party has given what the attempt needs; if one has not, no party has."""
        refusals: dict[PartyId, str] = {}

        async def prepare(party: PartyId) -> None:
            try:
                await self._peers.prepare(party, self._job, run)
            except RpcError as exc:
                if exc.code != "CORES_TAKEN":
                    raise
                refusals[party] = exc.message
                raise

        try:
            await self._at_all(prepare)
        except RpcError as exc:
            if exc.code != "CORES_TAKEN":
                raise
            logger.info("the task %s waits: %s", run.task, exc.message)
            note(refusals)
            await self._stop(run)
            return False
        return True

    async def _supervise(self, party: PartyId, run: TaskRun) -> None:
        """Record what a party reports until its roles have succeeded; raise `_Ended` where one does not."""
        missing = set(self._job.description.members_at(party))
        lost = Outcome(State.LOST, f"party {party} ended its reports without a verdict", _LOST_HINT)
        try:
            async with aclosing(self._peers.supervise(party, run)) as reports:
                async for member, outcome in reports:
                    if member in missing:
                        await self._record(run, member, outcome)
                    if outcome.state is State.SUCCESS:
                        missing.discard(member)
        except RpcError as exc:
            if exc.code != "NOT_REGISTERED":
                raise
            lost = Outcome(State.LOST, exc.message, exc.hint)
        if missing:
            await self._record(run, min(missing), lost)

    async def _record(self, run: TaskRun, member: Member, outcome: Outcome) -> None:
        if outcome.state is State.RUNNING:
            return  # written down when every party had started
        if member.party != self._party or outcome.state is State.LOST:
            await until_recorded(lambda: self._store.report(run, member, outcome))
        if outcome.state in FINAL and outcome.state is not State.SUCCESS:
            raise _Ended(run, member, outcome)

    async def _abandon(self, run: TaskRun, reason: str) -> None:
        await self._stop(run)
        await until_recorded(lambda: self._store.abandon(run, reason))

    async def _stop(self, run: TaskRun) -> None:
        """Stop an attempt wherever that can be said now; its leases and the next attempt do the rest."""
        results = await asyncio.gather(
            *(self._peers.stop(party, run) for party in self._job.description.parties), return_exceptions=True
        )
        for result in results:
            if isinstance(result, RpcError):
                logger.warning("%s was not stopped everywhere: %s", run, result.message)
            elif isinstance(result, BaseException):
                raise result

    async def _at_all(self, call: Callable[[PartyId], Awaitable[None]]) -> None:
        """Do the same at all parties at once; raise the first error as soon as it is known."""

        async def at(party: PartyId) -> None:
            await call(party)

        try:
            async with asyncio.TaskGroup() as group:
                for party in self._job.description.parties:
                    group.create_task(at(party))
        except ExceptionGroup as exc:
            raise exc.exceptions[0] from None
