"""Jobs in the database: every statement of the flow.

Owns the statements and that each change of state is one atomic ``UPDATE … WHERE state IN (…)``. Does not own which
change is right (`scheduler`, `site`). Wakes who watches a job after each commit.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database
from fedparty.flow.changes import Changes
from fedparty.flow.records import Job, Notice, Outcome, RoleRun
from fedparty.flow.states import FINAL, SOURCES, State
from fedparty.flow.tables import JOBS, NOTICES, ROLE_RUNS
from fedparty.types import JobId, Member, PartyId, TaskRun

_JOB, _ROLE = JOBS.c, ROLE_RUNS.c


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
        self._database = database
        self.changes = changes

    # Reading

    async def job(self, job: JobId) -> Job | None:
        """Return a job, or None."""
        found = await self._jobs(sa.select(JOBS).where(_JOB.id == job))
        return found[0] if found else None

    async def jobs(self, limit: int) -> tuple[Job, ...]:
        """Return the newest jobs, newest first."""
        return await self._jobs(sa.select(JOBS).order_by(_JOB.created_at.desc(), _JOB.id.desc()).limit(limit))

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
        async with self._database.read() as connection:
            rows = await connection.execute(sa.select(ROLE_RUNS).where(at).order_by(*order))
            return tuple(_role_run(row) for row in rows)

    async def notices(self) -> tuple[Notice, ...]:
        """Return the news that were not acknowledged yet."""
        async with self._database.read() as connection:
            rows = await connection.execute(sa.select(NOTICES))
            return tuple(Notice(JobId(row.job), PartyId(row.party), row.expires_at) for row in rows)

    # As initiator

    async def add_job(self, job: Job) -> None:
        """Record a job; one that is known stays as it is."""
        async with self._write(job.id) as connection:
            await _insert_or_ignore(connection, JOBS, [_job_values(job)])

    async def begin_attempt(self, run: TaskRun, members: Iterable[Member]) -> None:
        """Record the waiting roles of an attempt; those that are known stay as they are."""
        async with self._write(run.job) as connection:
            await _insert_or_ignore(connection, ROLE_RUNS, _waiting(run, members))

    async def started(self, run: TaskRun) -> None:
        """Record that every party has started its part of an attempt."""
        async with self._write(run.job) as connection:
            await _move_job(connection, run.job, Outcome(State.RUNNING))
            await _move_roles(connection, _of_run(run), Outcome(State.RUNNING))

    async def abandon(self, run: TaskRun, reason: str) -> None:
        """Record that what still runs of an attempt was stopped."""
        async with self._write(run.job) as connection:
            await _move_roles(connection, _of_run(run), Outcome(State.CANCELED, reason))

    async def finish(self, job: JobId, outcome: Outcome, parties: Iterable[PartyId], expires_at: float) -> bool:
        """End a job and note whom to tell; return whether it was open until now, else nothing is changed."""
        async with self._write(job) as connection:
            if not await _move_job(connection, job, outcome):
                return False
            await _move_roles(connection, _ROLE.job == job, _end_of_roles(outcome))
            notices = [{"job": job, "party": party, "expires_at": expires_at} for party in parties]
            await _insert_or_ignore(connection, NOTICES, notices)
            return True

    async def acknowledge(self, notice: Notice) -> None:
        """Record that a party knows of the end, or that it is told no longer."""
        async with self._database.write() as connection:
            is_it = (NOTICES.c.job == notice.job) & (NOTICES.c.party == notice.party)
            await connection.execute(sa.delete(NOTICES).where(is_it))

    # As site

    async def hold(self, job: Job, run: TaskRun, members: Iterable[Member]) -> None:
        """Record this party's part of a prepared attempt."""
        async with self._write(run.job) as connection:
            await _insert_or_ignore(connection, JOBS, [_job_values(job)])
            await connection.execute(sa.update(JOBS).where(_JOB.id == job.id).values(is_held=True))
            await _insert_or_ignore(connection, ROLE_RUNS, _waiting(run, members))

    async def launched(self, run: TaskRun, party: PartyId) -> None:
        """Record that this party's roles of an attempt run."""
        async with self._write(run.job) as connection:
            await _move_job(connection, run.job, Outcome(State.RUNNING))
            await _move_roles(connection, _of_run(run) & (_ROLE.party == party), Outcome(State.RUNNING))

    async def report(self, run: TaskRun, member: Member, outcome: Outcome) -> bool:
        """Record the state of one role; return whether it was news."""
        at = _of_run(run) & (_ROLE.role == member.role) & (_ROLE.party == member.party)
        async with self._write(run.job) as connection:
            return await _move_roles(connection, at, outcome) > 0

    async def forget_unstarted(self, run: TaskRun, party: PartyId) -> None:
        """Undo `hold` for an attempt that never started, so that it may be prepared again."""
        is_unstarted = _of_run(run) & (_ROLE.party == party) & (_ROLE.state == State.WAITING)
        async with self._write(run.job) as connection:
            await connection.execute(sa.delete(ROLE_RUNS).where(is_unstarted))

    async def end_roles(self, run: TaskRun, party: PartyId, reason: str) -> None:
        """Record that this party's roles of an attempt were stopped."""
        async with self._write(run.job) as connection:
            at = _of_run(run) & (_ROLE.party == party)
            await _move_roles(connection, at, Outcome(State.CANCELED, reason))

    async def end_part(self, job: JobId, party: PartyId, outcome: Outcome) -> None:
        """End a job at this party, and its roles here."""
        async with self._write(job) as connection:
            await _move_job(connection, job, outcome)
            await _move_roles(connection, (_ROLE.job == job) & (_ROLE.party == party), _end_of_roles(outcome))

    async def let_go(self, job: JobId) -> None:
        """Record that this party's services hold nothing of a job any more."""
        async with self._write(job) as connection:
            await connection.execute(sa.update(JOBS).where(_JOB.id == job).values(is_held=False))

    @asynccontextmanager
    async def _write(self, job: JobId) -> AsyncIterator[AsyncConnection]:
        async with self._database.write() as connection:
            yield connection
        self.changes.notify(job)

    async def _jobs(self, query: sa.Select[Any]) -> tuple[Job, ...]:
        async with self._database.read() as connection:
            return tuple(_job(row) for row in await connection.execute(query))


async def _insert_or_ignore(connection: AsyncConnection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        await connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)


async def _move_job(connection: AsyncConnection, job: JobId, outcome: Outcome) -> bool:
    values = _times(outcome.state) | {"error": outcome.error, "hint": outcome.hint}
    is_legal = (_JOB.id == job) & _JOB.state.in_(SOURCES[outcome.state])
    moved = await connection.execute(sa.update(JOBS).where(is_legal).values(values))
    return moved.rowcount > 0


async def _move_roles(connection: AsyncConnection, at: sa.ColumnElement[bool], outcome: Outcome) -> int:
    values = _times(outcome.state) | {"error": outcome.error, "hint": outcome.hint, "result": outcome.result}
    is_legal = at & _ROLE.state.in_(SOURCES[outcome.state])
    return (await connection.execute(sa.update(ROLE_RUNS).where(is_legal).values(values))).rowcount


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


def _job_values(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "initiator": job.initiator,
        "name": job.name,
        "description": job.text,
        "state": job.state,
        "created_at": job.created_at,
        "deadline_at": job.deadline_at,
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
        error=row.error,
        hint=row.hint,
        started_at=row.started_at,
        ended_at=row.ended_at,
        is_held=row.is_held,
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
