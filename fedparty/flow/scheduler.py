"""The jobs that this party submitted, each driven to its end.

Owns accepting, stopping and ending jobs, one asyncio task per running job, and their resumption after a restart. Does
not own how one job runs (`run`), nor this party's part in it (`site`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

from ulid import ULID

from fedparty.errors import FedpartyError, JobError
from fedparty.flow import components
from fedparty.flow.admission import Admission, Asked
from fedparty.flow.background import until_read, until_recorded
from fedparty.flow.codes import Codes
from fedparty.flow.notices import KEPT_S, Notices
from fedparty.flow.peers import Peers
from fedparty.flow.records import Job, Outcome
from fedparty.flow.run import JobRun
from fedparty.flow.site import Site
from fedparty.flow.states import State
from fedparty.flow.store import Store
from fedparty.flow.turns import Turns
from fedparty.jobs import description as descriptions
from fedparty.jobs.description import JobDescription
from fedparty.rpc import catalogue
from fedparty.rpc.logging import log_context
from fedparty.types import JobId

logger = logging.getLogger(__name__)


class Scheduler:
    """Drives this party's own jobs.

    Parameters
    ----------
    site
        This party's own part in jobs.
    admission
        Decides whether it takes part, and signs for its people.
    store, peers
        Its database, and the way to every party.
    codes
        The jobs' own code that is here.
    max_attempts
        How often a task is tried whose processes are lost.
    timeout_s
        Limit for a job that names none.
    """

    def __init__(
        self,
        site: Site,
        admission: Admission,
        store: Store,
        peers: Peers,
        codes: Codes,
        max_attempts: int,
        timeout_s: float,
    ) -> None:
        self._party = site.party
        self._site = site
        self._admission = admission
        self._store = store
        self._peers = peers
        self._codes = codes
        self._max_attempts = max_attempts
        self._timeout_s = timeout_s
        self._notices = Notices(site, store, peers)
        self._turns = Turns()
        self._running: dict[JobId, asyncio.Task[None]] = {}
        self.ended: Counter[State] = Counter()
        """How many jobs ended in which state, since the start of this process."""

    @property
    def waiting_tasks(self) -> int:
        """How many of their tasks wait for resources."""
        return len(self._turns)

    @property
    def open_jobs(self) -> int:
        """How many jobs are being driven."""
        return len(self._running)

    async def submit(self, description: JobDescription, asked: Asked) -> Job:
        """Accept a job: it is in the database when this returns, and is driven from now on.

        A request with a key that was accepted before is answered with its job, whoever accepted it.

        Parameters
        ----------
        asked
            Who submits it; where it is signed, the text that was is what every party reads.

        Raises
        ------
        JobError
            Written down, the description is not one that every party can read; or a component, a role or a parameter
            is unknown. Or the key was used for another job.
        RpcError
            NOT_KNOWN, NOT_ALLOWED: it cannot go on from the job that it names.
            BAD_REQUEST: its own code was not brought before.
            NOT_ENOUGH_RESOURCES: a task asks for more than this party will ever have. POLICY_REFUSED, TOKEN_REFUSED:
            see `Admission.submitted`.
        """
        now = time.time()
        text = asked.text or description.travelling()
        description = descriptions.parse(text)
        if known := await self._submitted(description, asked):
            return known
        await asyncio.to_thread(components.check, description)
        if not await self._codes.has(description):
            message = "the job's own code is not here: bring it first"
            raise catalogue.error("BAD_REQUEST", message, hint="fedparty job submit does; in REST: PUT /v1/code.")
        job = Job(
            id=JobId(f"{self._party}-{ULID()}"),
            initiator=self._party,
            name=description.name,
            text=text,
            state=State.WAITING,
            created_at=now,
            deadline_at=now + (description.timeout_s or self._timeout_s),
            submission=asked.submission,
            code=description.code.sha256 if description.code else "",
        )
        self._site.check(job)
        await self._site.check_resumption(job)
        job = await self._admission.submitted(job, asked)
        await self._store.add_job(job)
        known = await self._submitted(description, asked)
        if known and known.id != job.id:  # the same request came twice at once
            return known
        with log_context(job=job.id):
            logger.info("job accepted: %s", description.name)
        self._drive(job)
        return job

    async def _submitted(self, description: JobDescription, asked: Asked) -> Job | None:
        """Return what the same request was accepted as before."""
        job = await self._store.submitted(asked.submission) if asked.submission else None
        if job is not None and job.description != description:
            hint = "Make a new key for each job; repeat one only with the request that it was made for."
            raise JobError(f"the idempotency key {asked.key} was used for another job, {job.id}", hint=hint)
        return job

    async def stop(self, job: Job, reason: str) -> None:
        """End a job with ``canceled``, at every party; one that has ended stays as it is."""
        has_ended = await self._end(job, Outcome(State.CANCELED, reason))
        running = self._running.get(job.id)
        if has_ended and running is not None:
            running.cancel()

    async def resume(self) -> None:
        """Go on with every job that had not ended before a restart, and with every notice."""
        await until_read(self._notices.resume)
        for job in await until_read(lambda: self._store.unfinished(self._party)):
            self._drive(job)

    async def close(self) -> None:
        """Stop driving; the jobs go on at the workers, and here after the next start."""
        running = tuple(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._notices.close()

    def _drive(self, job: Job) -> None:
        task = asyncio.create_task(self._run(job))
        self._running[job.id] = task
        task.add_done_callback(lambda _: self._running.pop(job.id, None))

    async def _run(self, job: Job) -> None:
        with log_context(job=job.id):
            try:
                outcome = await self._outcome(job)
                await until_recorded(lambda: self._end(job, outcome))
            except Exception:  # the boundary of one job: its end could not be recorded
                logger.exception("the job stays open until the next start: its end could not be recorded")

    async def _outcome(self, job: Job) -> Outcome:
        try:
            return await self._run_of(job).run()
        except FedpartyError as exc:
            return Outcome(State.FAILED, exc.message, exc.hint)
        except Exception as exc:  # the boundary of one job: recorded as its failure
            logger.exception("unforeseen error in the scheduler")
            return Outcome(State.FAILED, f"unforeseen error in the flow: {type(exc).__name__}: {exc}", _BUG_HINT)

    def _run_of(self, job: Job) -> JobRun:
        return JobRun(job, self._party, self._store, self._peers, self._turns, self._max_attempts)

    async def _end(self, job: Job, outcome: Outcome) -> bool:
        expires_at = time.time() + KEPT_S
        if not await self._store.finish(job.id, outcome, job.description.parties, expires_at):
            await self._notices.resume()  # this end may be recorded although its commit was never answered
            return False
        self.ended[outcome.state] += 1
        logger.info("job ended with %s%s", outcome.state, f": {outcome.error}" if outcome.error else "")
        self._notices.send(job, outcome, expires_at)
        return True


_BUG_HINT = "Look at the log of this party's flow service, and report it."
