"""Jobs in the database: every statement of the flow.

Owns the statements and that each change of state is one atomic ``UPDATE … WHERE state IN (…)``. Does not own which
change is right (`scheduler`, `site`). Wakes who watches a job after each commit.

A transaction may be done again (`Database.write`), so each is written such that it then finds nothing left to do. All
lock in one order: the job, its roles, its notices.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database
from fedparty.flow.changes import Changes
from fedparty.flow.records import Job, JobHead, Notice, Outcome, RoleRun
from fedparty.flow.states import FINAL, SOURCES, State
from fedparty.flow.tables import DELETED_JOBS, JOBS, METADATA, NOTICES, ROLE_RUNS
from fedparty.types import JobId, Member, PartyId, TaskRun

_JOB, _ROLE = JOBS.c, ROLE_RUNS.c
_HEAD = (
    _JOB.id, _JOB.initiator, _JOB.name, _JOB.state, _JOB.created_at, _JOB.error, _JOB.hint, _JOB.started_at,
    _JOB.ended_at, _JOB.submitter,
)  # fmt: skip


class Store:
    """The jobs that a party knows.

    Parameters
    ----------
    database
        Where they are.
    changes
        Who is told of each commit.
    """

    def __init__(self, database: Database, changes: Changes) -> None:
        self.database = self._database = database
        self.changes = changes

    # Reading

    async def job(self, job: JobId) -> Job | None:
        """Return a job, or None."""
        found = await self._jobs(sa.select(JOBS).where(_JOB.id == job))
        return found[0] if found else None

    async def jobs(
        self, limit: int, *, states: Collection[State] = (), before: JobHead | None = None, match: str = ""
    ) -> tuple[JobHead, ...]:
        """Return the newest jobs, newest first.

        Parameters
        ----------
        states
            Only those in one of these; none: in any.
        before
            Only those after this one in the list.
        match
            Only those whose id begins or ends with this; it has no characters but those of ids.
        """
        query = sa.select(*_HEAD).order_by(_JOB.created_at.desc(), _JOB.id.desc()).limit(limit)
        if states:
            query = query.where(_JOB.state.in_(states))
        if before is not None:
            is_as_old = (_JOB.created_at == before.created_at) & (_JOB.id < before.id)
            query = query.where((_JOB.created_at < before.created_at) | is_as_old)
        if match:
            query = query.where(_JOB.id.startswith(match, autoescape=True) | _JOB.id.endswith(match, autoescape=True))
        return tuple(_head(row) for row in await self._rows(query))

    async def submitted(self, submission: str) -> Job | None:
        """Return the job that a request was accepted as, or None."""
        found = await self._jobs(sa.select(JOBS).where(_JOB.submission == submission))
        return found[0] if found else None

    async def is_deleted(self, job: JobId) -> bool:
        """Return whether a job was known here once and was deleted."""
        return bool(await self._rows(sa.select(DELETED_JOBS).where(DELETED_JOBS.c.id == job)))

    async def unfinished(self, initiator: PartyId) -> tuple[Job, ...]:
        """Return the jobs of an initiator that have not ended, oldest first."""
        is_open = _JOB.state.not_in(FINAL) & (_JOB.initiator == initiator)
        return await self._jobs(sa.select(JOBS).where(is_open).order_by(_JOB.created_at))

    async def held(self) -> tuple[Job, ...]:
        """Return the jobs of which this party's services may still hold something."""
        return await self._jobs(sa.select(JOBS).where(_JOB.is_held))

    async def role_runs(self, job: JobId, *, party: PartyId | None = None) -> tuple[RoleRun, ...]:
        """Return the runs of a job's roles, at `party` alone or at all, by task, attempt, role and party."""
        at = (_ROLE.job == job) if party is None else (_ROLE.job == job) & (_ROLE.party == party)
        order = (_ROLE.task, _ROLE.attempt, _ROLE.role, _ROLE.party)
        return tuple(_role_run(row) for row in await self._rows(sa.select(ROLE_RUNS).where(at).order_by(*order)))

    async def outdated(self, ended_before: float, kept: int, limit: int) -> tuple[JobId, ...]:
        """Return ended jobs, oldest first, that ended before a time or are not among the newest `kept`.

        Only those of which nothing is held, and of whose end every party knows.
        """
        order = (_JOB.created_at.desc(), _JOB.id.desc())
        surplus = await self._rows(sa.select(_JOB.created_at).order_by(*order).offset(kept).limit(1))
        is_old = _JOB.ended_at < ended_before
        if surplus:
            is_old |= _JOB.created_at <= surplus[0].created_at
        is_untold = sa.exists().where(NOTICES.c.job == _JOB.id)
        may_go = _JOB.state.in_(FINAL) & ~_JOB.is_held & ~is_untold
        query = sa.select(_JOB.id).where(may_go & is_old).order_by(_JOB.created_at, _JOB.id).limit(limit)
        return tuple(JobId(row.id) for row in await self._rows(query))

    async def with_old_files(self, ended_before: float, limit: int) -> tuple[JobId, ...]:
        """Return jobs, oldest first, that ended before a time, of which nothing is held, and may still have files."""
        may_go = _JOB.state.in_(FINAL) & ~_JOB.is_held & _JOB.has_no_files.is_not(True) & (_JOB.ended_at < ended_before)
        query = sa.select(_JOB.id).where(may_go).order_by(_JOB.created_at, _JOB.id).limit(limit)
        return tuple(JobId(row.id) for row in await self._rows(query))

    async def fault(self, timeout_s: float) -> str:
        """Return why the database cannot be used now; empty: it can."""
        return await self._database.fault(timeout_s)

    async def notices(self) -> tuple[Notice, ...]:
        """Return the news that were not acknowledged yet."""
        rows = await self._rows(sa.select(NOTICES))
        return tuple(Notice(JobId(row.job), PartyId(row.party), row.expires_at) for row in rows)

    # As initiator

    async def add_job(self, job: Job) -> None:
        """Record a job; where it or one of the same submission is known, that stays as it is, and nothing is added."""
        await self._write(job.id, self._add(JOBS, [_job_values(job)]))

    async def begin_attempt(self, run: TaskRun, members: Iterable[Member]) -> None:
        """Record the waiting roles of an attempt; those that are known stay as they are."""
        await self._write(run.job, self._add(ROLE_RUNS, _waiting(run, members)))

    async def started(self, run: TaskRun) -> None:
        """Record that every party has started its part of an attempt."""
        running = Outcome(State.RUNNING)
        await self._write(run.job, _move_job(run.job, running), _move_roles(_of_run(run), running))

    async def abandon(self, run: TaskRun, reason: str) -> None:
        """Record that what still runs of an attempt was stopped."""
        await self._write(run.job, _move_roles(_of_run(run), Outcome(State.CANCELED, reason)))

    async def finish(self, job: JobId, outcome: Outcome, parties: Iterable[PartyId], expires_at: float) -> bool:
        """End a job and note whom to tell; return whether it was open until now, else nothing is changed.

        A connection that broke in the commit may leave that unknown: then False is returned, and the notices are there.
        """
        notices = [{"job": job, "party": party, "expires_at": expires_at} for party in parties]

        async def work(connection: AsyncConnection) -> bool:
            if not (await connection.execute(_move_job(job, outcome))).rowcount:
                return False
            await connection.execute(_move_roles(_ROLE.job == job, _end_of_roles(outcome)))
            await connection.execute(self._add(NOTICES, notices))
            return True

        was_open = await self._database.write(work)
        self.changes.notify(job)
        return was_open

    async def acknowledge(self, notice: Notice) -> None:
        """Record that a party knows of the end, or that it is told no longer."""
        is_it = (NOTICES.c.job == notice.job) & (NOTICES.c.party == notice.party)
        await self._write(notice.job, sa.delete(NOTICES).where(is_it))

    async def take_over(self, old: JobId, new: JobId, tasks: Collection[str], party: PartyId | None = None) -> None:
        """Record that tasks of a job have succeeded with an older job's results: those of `party`, or of all."""
        newest = _newest(await self.role_runs(old, party=party), tasks)
        now = time.time()
        rows = [
            {
                "job": new, "task": role.run.task, "attempt": 1, "role": role.member.role, "party": role.member.party,
                "state": State.SUCCESS, "result": role.result, "created_at": now, "started_at": now, "ended_at": now,
            }
            for role in newest
        ]  # fmt: skip
        if rows:
            await self._write(new, self._add(ROLE_RUNS, rows))

    # As site

    async def hold(self, job: Job, run: TaskRun, members: Iterable[Member]) -> None:
        """Record this party's part of a prepared attempt."""
        await self._write(
            run.job,
            self._add(JOBS, [_job_values(job)]),
            sa.update(JOBS).where(_JOB.id == job.id).values(is_held=True),
            self._add(ROLE_RUNS, _waiting(run, members)),
        )

    async def launched(self, run: TaskRun, party: PartyId) -> None:
        """Record that this party's roles of an attempt run."""
        running = Outcome(State.RUNNING)
        here = _of_run(run) & (_ROLE.party == party)
        await self._write(run.job, _move_job(run.job, running), _move_roles(here, running))

    async def report(self, run: TaskRun, member: Member, outcome: Outcome) -> None:
        """Record the state of one role."""
        at = _of_run(run) & (_ROLE.role == member.role) & (_ROLE.party == member.party)
        await self._write(run.job, _move_roles(at, outcome))

    async def forget_unstarted(self, run: TaskRun, party: PartyId) -> None:
        """Undo `hold` for an attempt that never started, so that it may be prepared again."""
        is_unstarted = _of_run(run) & (_ROLE.party == party) & (_ROLE.state == State.WAITING)
        await self._write(run.job, sa.delete(ROLE_RUNS).where(is_unstarted))

    async def end_roles(self, run: TaskRun, party: PartyId, reason: str) -> None:
        """Record that this party's roles of an attempt were stopped."""
        at = _of_run(run) & (_ROLE.party == party)
        await self._write(run.job, _move_roles(at, Outcome(State.CANCELED, reason)))

    async def end_part(self, job: JobId, party: PartyId, outcome: Outcome) -> None:
        """End a job at this party, and its roles here."""
        here = (_ROLE.job == job) & (_ROLE.party == party)
        await self._write(job, _move_job(job, outcome), _move_roles(here, _end_of_roles(outcome)))

    async def settle(self, job: JobId, party: PartyId, outcome: Outcome) -> None:
        """End a job at this party as its initiator says, also where this party ended it by itself before.

        A success is believed only where no role of this party ended otherwise. The first word of the initiator stays.
        """
        is_open = (_JOB.id == job) & _JOB.is_settled.is_not(True) & (_JOB.state != outcome.state)
        if outcome.state is State.SUCCESS:
            is_open &= ~sa.exists(_failed_roles(job, party))
        here = (_ROLE.job == job) & (_ROLE.party == party)
        ended_here = is_open & _JOB.state.in_(FINAL)
        values = {"state": outcome.state, "error": outcome.error, "hint": outcome.hint}
        await self._write(
            job,
            sa.update(JOBS).where(ended_here).values(values),
            _move_job(job, outcome),
            sa.update(JOBS).where(_JOB.id == job).values(is_settled=True),
            _move_roles(here, _end_of_roles(outcome)),
        )

    async def let_go(self, job: JobId) -> None:
        """Record that this party's services hold nothing of a job any more."""
        await self._write(job, sa.update(JOBS).where(_JOB.id == job).values(is_held=False))

    async def files_gone(self, job: JobId) -> None:
        """Record that nothing is left of a job's logs and files."""
        await self._write(job, sa.update(JOBS).where(_JOB.id == job).values(has_no_files=True))

    async def delete(self, job: JobId, expires_at: float) -> None:
        """Delete an ended job of which nothing is held, and all rows about it; until `expires_at` it is known by name.

        Rows of other tables go with it: those whose column refers to the job.
        """
        await self._write(
            job,
            self._add(DELETED_JOBS, [{"id": job, "expires_at": expires_at}]),
            sa.delete(DELETED_JOBS).where(DELETED_JOBS.c.expires_at < time.time()),
            sa.update(JOBS).where(_JOB.id == job).values(is_held=False),  # changes nothing: locks the job first
            *(sa.delete(table).where(column == job) for table, column in _about_jobs()),
            sa.delete(JOBS).where(_JOB.id == job),
        )

    def _add(self, table: sa.Table, rows: list[dict[str, Any]]) -> sa.Insert:
        return self._database.insert_if_absent(table).values(rows)

    async def _write(self, job: JobId, *statements: sa.Executable) -> None:
        """Run statements in one transaction; done twice, they change what they change once."""

        async def work(connection: AsyncConnection) -> None:
            for statement in statements:
                await connection.execute(statement)

        await self._database.write(work)
        self.changes.notify(job)

    async def _rows(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        async def work(connection: AsyncConnection) -> list[sa.Row[Any]]:
            return list(await connection.execute(query))

        return await self._database.read(work)

    async def _jobs(self, query: sa.Select[Any]) -> tuple[Job, ...]:
        return tuple(_job(row) for row in await self._rows(query))


def _move_job(job: JobId, outcome: Outcome) -> sa.Update:
    values = _times(outcome.state) | {"error": outcome.error, "hint": outcome.hint}
    is_legal = (_JOB.id == job) & _JOB.state.in_(SOURCES[outcome.state])
    return sa.update(JOBS).where(is_legal).values(values)


def _move_roles(at: sa.ColumnElement[bool], outcome: Outcome) -> sa.Update:
    values = _times(outcome.state) | {"error": outcome.error, "hint": outcome.hint, "result": outcome.result}
    is_legal = at & _ROLE.state.in_(SOURCES[outcome.state])
    return sa.update(ROLE_RUNS).where(is_legal).values(values)


def _of_run(run: TaskRun) -> sa.ColumnElement[bool]:
    return (_ROLE.job == run.job) & (_ROLE.task == run.task) & (_ROLE.attempt == run.attempt)


def _times(state: State) -> dict[str, Any]:
    return {"state": state, "started_at" if state is State.RUNNING else "ended_at": time.time()}


def _end_of_roles(outcome: Outcome) -> Outcome:
    """Return how the roles end that were still open when their job ended."""
    state = State.TIMEOUT if outcome.state is State.TIMEOUT else State.CANCELED
    return Outcome(state, outcome.error or f"the job ended with {outcome.state}", outcome.hint)


def _waiting(run: TaskRun, members: Iterable[Member]) -> list[dict[str, Any]]:
    common = {"job": run.job, "task": run.task, "attempt": run.attempt, "state": State.WAITING}
    return [common | {"role": m.role, "party": m.party, "created_at": time.time()} for m in members]


def _newest(roles: Iterable[RoleRun], tasks: Collection[str]) -> list[RoleRun]:
    """Return the roles of some tasks in the attempt that succeeded."""
    found = {(role.run.task, role.member): role for role in roles if role.state is State.SUCCESS}
    return [role for (task, _), role in found.items() if task in tasks]


def _failed_roles(job: JobId, party: PartyId) -> sa.Select[Any]:
    """Return the roles of a party that did not succeed in the newest attempt of their task."""
    newer = ROLE_RUNS.alias()
    has_newer = sa.exists().where(
        (newer.c.job == _ROLE.job) & (newer.c.task == _ROLE.task) & (newer.c.attempt > _ROLE.attempt)
    )
    at = (_ROLE.job == job) & (_ROLE.party == party) & (_ROLE.state != State.SUCCESS)
    return sa.select(_ROLE.role).where(at & ~has_newer)


def _about_jobs() -> Iterator[tuple[sa.Table, sa.Column[Any]]]:
    """Yield each table with rows about jobs, and its column that says about which; referring tables first."""
    for table in reversed(METADATA.sorted_tables):
        for column in table.columns:
            if any(key.references(JOBS) for key in column.foreign_keys):
                yield table, column


def _job_values(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "initiator": job.initiator,
        "name": job.name,
        "description": job.text,
        "state": job.state,
        "created_at": job.created_at,
        "deadline_at": job.deadline_at,
        "submitter": job.submitter,
        "voucher": job.voucher or None,
        "submission": job.submission or None,
        "code": job.code or None,
        "is_held": job.is_held,
    }


def _job(row: sa.Row[Any]) -> Job:
    return Job(
        id=JobId(row.id),
        initiator=PartyId(row.initiator),
        name=row.name,
        text=row.description,
        state=State(row.state),
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        submitter=row.submitter,
        voucher=row.voucher or "",
        submission=row.submission or "",
        code=row.code or "",
        error=row.error,
        hint=row.hint,
        started_at=row.started_at,
        ended_at=row.ended_at,
        is_held=row.is_held,
    )


def _head(row: sa.Row[Any]) -> JobHead:
    return JobHead(
        id=JobId(row.id),
        initiator=PartyId(row.initiator),
        name=row.name,
        state=State(row.state),
        created_at=row.created_at,
        error=row.error,
        hint=row.hint,
        started_at=row.started_at,
        ended_at=row.ended_at,
        submitter=row.submitter,
    )


def _role_run(row: sa.Row[Any]) -> RoleRun:
    return RoleRun(
        run=TaskRun(JobId(row.job), row.task, row.attempt),
        member=Member(row.role, PartyId(row.party)),
        state=State(row.state),
        error=row.error,
        hint=row.hint,
        result=row.result,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
