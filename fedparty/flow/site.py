"""This party's part in jobs, whoever submitted them.

Owns what is prepared, started, watched and ended *here*: resources, registration at the mailbox, processes at the
worker, each job's deadline by this party's own clock. Does not own the job as a whole (`scheduler`), nor who may ask
(`coordination`).

Whatever this party's services hold of a job is noted in the database (``is_held``) before they hold it, and until they
certainly let it go: a restarted flow carries on from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from functools import partial
from weakref import WeakValueDictionary

from fedparty.errors import DatabaseError, RpcError
from fedparty.federation.client import MailboxClient
from fedparty.flow.background import Background, until_read, until_recorded
from fedparty.flow.bindings import Bindings
from fedparty.flow.codes import Codes
from fedparty.flow.launcher import Launcher
from fedparty.flow.records import Job, Outcome, RoleRun
from fedparty.flow.resources import Resources, needs_of, rank_of
from fedparty.flow.resumption import Resumption
from fedparty.flow.states import State
from fedparty.flow.store import Store
from fedparty.flow.terms import Granted, Terms
from fedparty.jobs.description import MAX_TIMEOUT_S
from fedparty.rpc import catalogue
from fedparty.types import JobId, PartyId, TaskRun

logger = logging.getLogger(__name__)

_BACKOFF_S, _MAX_BACKOFF_S = 0.2, 30.0
_FIRST_WORD_S, _MAX_LEARN_BACKOFF_S = 1.0, 2.0
_OVERTAKEN_S = 3600.0
"""How long a call may be on its way: the end of a job that is not known yet is remembered so long."""


class Site:
    """This party's part in jobs.

    Parameters
    ----------
    party
        Who this is.
    store, resources, launcher, mailbox
        Its database, its resources, worker service and mailbox.
    bindings, codes
        Its tables, and the jobs' own code that is here.
    granted
        Returns by role the rule of the site's policy under which a task runs; see `Admission.granted`.
    lease_s
        How long prepared resources are kept for a start that does not come.
    """

    def __init__(
        self,
        party: PartyId,
        store: Store,
        resources: Resources,
        launcher: Launcher,
        mailbox: MailboxClient,
        bindings: Bindings,
        codes: Codes,
        granted: Granted,
        lease_s: float,
    ) -> None:
        self.party = party
        self.resources = resources
        self._store = store
        self.launcher = launcher
        self._mailbox = mailbox
        self.bindings = bindings
        self._resumption = Resumption(party, store, launcher)
        self._terms = Terms(party, bindings, codes, granted, launcher)
        self._lease_s = lease_s
        self._locks: WeakValueDictionary[JobId, asyncio.Lock] = WeakValueDictionary()
        self._leases: dict[TaskRun, asyncio.TimerHandle] = {}
        self._watches, self._deadlines, self._clearing = Background(), Background(), Background()
        self._learning = Background()

    async def prepare(self, job: Job, run: TaskRun) -> None:
        """Take what this party's roles need, and register the attempt at the mailbox.

        Raises
        ------
        RpcError
            STALE_ATTEMPT, TASK_ENDED, NOT_ENOUGH_RESOURCES, CORES_TAKEN, or a service of this party that does not
            answer.
        """
        async with self._lock(run.job):
            known, roles = await self._admit(run)
            if known is not None and known.text != job.text:
                raise catalogue.error("BAD_REQUEST", f"job {run.job} is known here with another description")
            if any(role.run == run and role.state is not State.WAITING for role in roles):
                return
            await self._end_attempts([role for role in roles if role.run.attempt < run.attempt], "a newer attempt")
            self.check(job)
            await self._terms.check(job, run)
            await self._resumption.take_over(job)
            await self._hold(known or job, run)
            if resume := job.description.resume:
                await self._store.take_over(JobId(resume.job), job.id, job.description.taken_over, self.party)

    async def check_resumption(self, job: Job) -> None:
        """Refuse a job that goes on from one whose results this party, as the initiator, does not hold.

        Raises
        ------
        RpcError
            NOT_KNOWN, NOT_ALLOWED: see `Resumption.check`.
        """
        await self._resumption.check(job, job.description.members)

    def check(self, job: Job) -> None:
        """Refuse a job of which any task asks for more than this party will ever have.

        Raises
        ------
        RpcError
            NOT_ENOUGH_RESOURCES: with the numbers.
        """
        if job.description.members_at(self.party):
            self.resources.check({task: needs_of(job, task, self.party) for task in job.description.tasks})

    async def queue(self, job: Job, run: TaskRun) -> AsyncGenerator[str]:
        """Stand in line while this is read; yield what it waits for when its turn comes or goes, empty: it is its turn.

        Raises
        ------
        RpcError
            NOT_ENOUGH_RESOURCES: it never will be.
        """
        self.check(job)
        was_turn: bool | None = None
        with self.resources.place(rank_of(job, run), needs_of(job, run.task, self.party)) as place:
            while True:
                change, waits_for = place.change, place.waits_for
                if was_turn is not (not waits_for):
                    was_turn = not waits_for
                    yield waits_for
                await change.wait()

    async def start(self, run: TaskRun) -> None:
        """Start this party's roles of a prepared attempt.

        Raises
        ------
        RpcError
            NOT_REGISTERED, STALE_ATTEMPT, TASK_ENDED, CORES_TAKEN, or a worker service that does not answer.
        """
        async with self._lock(run.job):
            job, roles = await self._admit(run)
            roles = [role for role in roles if role.run == run]
            if job is None or not roles:
                raise catalogue.error("NOT_REGISTERED", f"{run} is not prepared at party {self.party}")
            if any(role.state in (State.CANCELED, State.TIMEOUT) for role in roles):
                raise catalogue.error("TASK_ENDED", f"{run} was stopped at party {self.party}")
            if any(role.state is State.WAITING for role in roles):
                await self._launch(job, run, roles)

    async def stop(self, run: TaskRun, reason: str) -> None:
        """End an attempt and every older one of its task; the job goes on.

        Raises
        ------
        RpcError
            The worker service does not answer.
        """
        async with self._lock(run.job):
            roles = await self._store.role_runs(run.job, party=self.party)
            ended = [role for role in roles if role.run.task == run.task and role.run.attempt <= run.attempt]
            await self._end_attempts(ended, reason)

    async def end(self, job: JobId, outcome: Outcome) -> None:
        """End a job here by this party's own word; its initiator hears it from the roles that end with it.

        What this party's services hold is let go now, or as soon as they answer.
        """
        await self._end_and_clear(job, self._store.end_part, outcome)

    async def settle(self, job: JobId, outcome: Outcome) -> None:
        """End a job here as its initiator has decided, so that all parties' records agree.

        Where the end overtook the job, what arrives of the job later is refused.
        """
        async with self._lock(job):
            if await self._store.job(job) is None:
                await self._store.delete(job, time.time() + _OVERTAKEN_S)
        await self._end_and_clear(job, self._store.settle, outcome)

    async def _end_and_clear(
        self, job: JobId, record: Callable[[JobId, PartyId, Outcome], Awaitable[None]], outcome: Outcome
    ) -> None:
        async with self._lock(job):
            known = await self._store.job(job)
            if known is None:
                return
            await record(job, self.party, outcome)
            if known.is_held:
                await self._clear_or_retry(known)

    async def delete(self, job: JobId) -> None:
        """Delete an ended job here: what it left at the worker, and what is recorded of it.

        Raises
        ------
        RpcError
            CONFLICT: it has not ended, something is still held of it, or a party has not heard of its end. Or the
            worker service does not answer.
        """
        async with self._lock(job):
            known = await self._store.job(job)
            if known is None:
                return
            if not known.is_final:
                raise catalogue.error("CONFLICT", f"job {job} is {known.state}", hint="Stop it first.")
            if known.is_held:
                raise catalogue.error("CONFLICT", f"job {job} is still being cleared at party {self.party}")
            untold = [notice.party for notice in await self._store.notices() if notice.job == job]
            if untold:
                raise catalogue.error(
                    "CONFLICT",
                    f"job {job} has ended, and party {', '.join(untold)} was not told yet",
                    hint="Wait until that party is reached again.",
                )
            await self.launcher.forget(job)
            await self._store.delete(job, time.time() + MAX_TIMEOUT_S)

    async def delete_files(self, job: JobId) -> None:
        """Delete what an ended job left at the worker: its logs, figures and files; what is recorded of it stays.

        Raises
        ------
        RpcError
            The worker service does not answer.
        """
        async with self._lock(job):
            await self.launcher.forget(job)
            await self._store.files_gone(job)

    async def adopt(self) -> None:
        """Carry on after a restart: watch what runs, let go what has ended."""
        self._learn()
        for job in await until_read(self._store.held):
            if job.is_final:
                self._clear_later(job)
                continue
            roles = await until_read(partial(self._own, job.id))
            for run in _runs(role for role in roles if role.state is State.RUNNING):
                self.resources.adopt(run, needs_of(job, run.task, self.party))
                self._watch(run, job)
            self._keep_deadline(job)
        with suppress(TimeoutError):  # a worker that is there answers at once; one that is not must not delay the rest
            await asyncio.wait_for(self.resources.known.wait(), _FIRST_WORD_S)

    async def close(self) -> None:
        """Stop watching; tasks go on and are adopted by the next start."""
        for lease in self._leases.values():
            lease.cancel()
        for background in (self._watches, self._deadlines, self._clearing, self._learning):
            await background.close()

    def _learn(self) -> None:
        """Ask the worker what its machine has; nothing is taken before it has answered once."""
        self._learning.keep("machine", self._until_learnt())

    async def _until_learnt(self) -> None:
        backoff_s = _BACKOFF_S
        while True:
            try:
                machine = await self.launcher.describe()
                self._terms.unheld = machine.unheld
                self.resources.learn(machine)
                return
            except RpcError as exc:
                logger.info("what the worker's machine has is asked again: %s", exc.message)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_LEARN_BACKOFF_S)

    def _lock(self, job: JobId) -> asyncio.Lock:
        return self._locks.setdefault(job, asyncio.Lock())

    async def _own(self, job: JobId) -> tuple[RoleRun, ...]:
        return await self._store.role_runs(job, party=self.party)

    async def _admit(self, run: TaskRun) -> tuple[Job | None, list[RoleRun]]:
        """Return the job, and this party's roles of the task in all attempts, unless `run` may not go on.

        Raises
        ------
        RpcError
            STALE_ATTEMPT: there is a newer one. TASK_ENDED: the job has ended here.
        """
        job = await self._store.job(run.job)
        if job is None and await self._store.is_deleted(run.job):
            raise catalogue.error("TASK_ENDED", f"job {run.job} has ended, and party {self.party} keeps nothing of it")
        if job is not None and job.is_final:
            reason = f"job {run.job} has ended at party {self.party} with {job.state}"
            raise catalogue.error("TASK_ENDED", f"{reason}: {job.error}" if job.error else reason)
        roles = [role for role in await self._own(run.job) if role.run.task == run.task]
        newest = max((role.run.attempt for role in roles), default=0)
        if newest > run.attempt:
            raise catalogue.error("STALE_ATTEMPT", f"{run} is older than attempt {newest} at party {self.party}")
        return job, roles

    async def _hold(self, job: Job, run: TaskRun) -> None:
        self._take(job, run)
        try:
            await self._store.hold(job, run, job.description.members_at(self.party))
            await self._register(job, run)
        except BaseException:
            self._release(run)
            raise
        self._lease(run)
        self._keep_deadline(job)

    async def _register(self, job: Job, run: TaskRun) -> None:
        try:
            await self._mailbox.register(run, job.description.members)
        except RpcError as exc:
            if exc.code != "MAILBOX_DOWN":
                raise
            raise catalogue.error(
                "MAILBOX_DOWN",
                f"the federation service (mailbox) of party {self.party} does not answer",
                hint=f"Look at the federation service of party {self.party}: deploy.py status.",
            ) from exc

    async def _launch(self, job: Job, run: TaskRun, roles: list[RoleRun]) -> None:
        rules = self._terms.granted(job, run)
        self._take(job, run)
        self._lease(run)
        for role in roles:
            await self._terms.start(job, run, role.member, rules[role.member.role])
        await self._store.launched(run, self.party)
        self._end_lease(run)
        logger.info("attempt %d started: %s", run.attempt, ", ".join(str(role.member) for role in roles))
        self._watch(run, job)

    def _take(self, job: Job, run: TaskRun) -> None:
        self.resources.take(rank_of(job, run), needs_of(job, run.task, self.party))

    def _lease(self, run: TaskRun) -> None:
        """Keep an attempt's resources for a start, but not for ever."""
        self._end_lease(run)
        self._leases[run] = asyncio.get_running_loop().call_later(self._lease_s, self._release, run)

    def _end_lease(self, run: TaskRun) -> None:
        lease = self._leases.pop(run, None)
        if lease is not None:
            lease.cancel()

    def _release(self, run: TaskRun) -> None:
        self._end_lease(run)
        self.resources.release(run)

    def _watch(self, run: TaskRun, job: Job) -> None:
        self._watches.keep(run, self._record(run, job), job=run.job, task=run.task)

    async def _record(self, run: TaskRun, job: Job) -> None:
        """Write down what the worker says about an attempt, until it has ended here."""
        async with aclosing(self.launcher.follow(run, job.description.members_at(self.party))) as reports:
            async for member, outcome in reports:
                if outcome.state is State.RUNNING:
                    continue  # written down when it was launched
                if outcome.state is State.LOST:
                    logger.warning("%s in attempt %d: %s", member, run.attempt, outcome.error)
                    self._learn()  # the worker may have come back on another machine
                await until_recorded(partial(self._store.report, run, member, outcome))
        self._release(run)

    async def _end_attempts(self, roles: Iterable[RoleRun], reason: str) -> None:
        for run in _runs(role for role in roles if not role.is_final or role.state is State.LOST):
            await self._stop_run(run)
            await self._store.forget_unstarted(run, self.party)
            await self._store.end_roles(run, self.party, reason)

    async def _stop_run(self, run: TaskRun) -> None:
        """Kill what runs of an attempt; the worker's word on its end is no news any more."""
        self._watches.cancel(run)
        await self.launcher.stop(run)
        self._release(run)

    def _keep_deadline(self, job: Job) -> None:
        if job.initiator != self.party:  # there the scheduler keeps it, for all parties
            self._deadlines.keep(job.id, self._end_in_time(job), job=job.id)

    async def _end_in_time(self, job: Job) -> None:
        """End a job here when its time is over, also where its initiator is silent."""
        await asyncio.sleep(max(0.0, job.deadline_at - time.time()))
        logger.warning("the job's time is over")
        error = f"the job's time is over ({job.deadline_at - job.created_at:.0f} s at party {self.party})"
        outcome = Outcome(State.TIMEOUT, error, "Give the job more time: timeout_s.")
        await until_recorded(lambda: self.end(job.id, outcome))

    async def _clear_or_retry(self, job: Job) -> None:
        try:
            await self._clear(job)
        except (RpcError, DatabaseError) as exc:
            logger.warning("what is held of the job is let go later: %s", exc.message)
            self._clear_later(job)

    def _clear_later(self, job: Job) -> None:
        self._clearing.keep(job.id, self._clear_until_done(job), job=job.id)

    async def _clear_until_done(self, job: Job) -> None:
        backoff_s = _BACKOFF_S
        while True:
            try:
                async with self._lock(job.id):
                    await self._clear(job)
                return
            except (RpcError, DatabaseError) as exc:
                logger.info("what is held of the job is let go later: %s", exc.message)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    async def _clear(self, job: Job) -> None:
        """Let go of everything of an ended job."""
        roles = await self._own(job.id)
        for run in _runs(role for role in roles if role.state not in (State.SUCCESS, State.FAILED)):
            await self._stop_run(run)
        for task in job.description.tasks:
            await self._mailbox.close(job.id, task)
        await self._store.let_go(job.id)
        self._deadlines.cancel(job.id)


def _runs(roles: Iterable[RoleRun]) -> tuple[TaskRun, ...]:
    """Return the attempts of roles, each once, in order."""
    return tuple(dict.fromkeys(role.run for role in roles))
