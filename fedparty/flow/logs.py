"""The logs of this party's own tasks, from its worker, as one stream.

Owns which logs belong to a job and merging them by whole lines. Does not own what is written there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Protocol

from fedparty.errors import RpcError
from fedparty.flow.background import until_read
from fedparty.flow.records import RoleRun
from fedparty.flow.states import State
from fedparty.flow.store import Store
from fedparty.types import JobId, Member, PartyId, TaskRun

_QUEUE_LENGTH = 16
_NO_LOG = frozenset({"NOT_KNOWN", "NOT_REGISTERED"})

_Log = tuple[TaskRun, Member]


@dataclass(frozen=True)
class Lines:
    """Whole lines of one log.

    Parameters
    ----------
    log
        Which: ``task/attempt/role``; empty where nothing was read yet.
    offset
        From which byte on that log is read next.
    content
        The lines, each with its end.
    """

    log: str
    offset: int
    content: bytes


class _Read(Protocol):
    def __call__(self, run: TaskRun, member: Member, offset: int, *, follow: bool) -> AsyncGenerator[bytes]: ...


class Logs:
    """Reads logs.

    Parameters
    ----------
    party
        Who this is: only its own roles' logs are here.
    store, read
        What ran; what yields the bytes of one log (or of one role's figures) from an offset on, maybe following it.
    """

    def __init__(self, party: PartyId, store: Store, read: _Read) -> None:
        self._party = party
        self._store = store
        self._read = read

    async def read(
        self,
        job: JobId,
        role: str | None,
        *,
        follow: bool,
        offsets: Mapping[str, int] = MappingProxyType({}),
    ) -> AsyncGenerator[Lines]:
        """Yield the lines of every attempt, several at once.

        Parameters
        ----------
        follow
            Whether to go on until the job has ended.
        offsets
            From which byte on logs are read, by ``task/attempt/role``; others as a whole.
        """
        if follow:
            async with aclosing(_Follower(self, job, role, offsets).lines()) as followed:
                async for lines in followed:
                    yield lines
            return
        for run, member in await self.logs(job, role):
            async with aclosing(self.lines(run, member, offsets, follow=False)) as read:
                async for lines in read:
                    yield lines

    async def logs(self, job: JobId, role: str | None) -> list[_Log]:
        """Return the logs that a job has here now, oldest first."""
        roles = [r for r in await self._store.role_runs(job, party=self._party) if role in (None, r.member.role)]
        return [(r.run, r.member) for r in sorted(roles, key=_age) if r.state is not State.WAITING]

    async def lines(
        self, run: TaskRun, member: Member, offsets: Mapping[str, int], *, follow: bool
    ) -> AsyncGenerator[Lines]:
        """Yield the whole lines of one log, and where it breaks off one that says so; none where there is no log."""
        log = f"{run.task}/{run.attempt}/{member.role}"
        rest, offset = b"", offsets.get(log, 0)
        try:
            async with aclosing(self._read(run, member, offset, follow=follow)) as chunks:
                async for chunk in chunks:
                    whole, newline, rest = (rest + chunk).rpartition(b"\n")
                    if newline:
                        offset += len(whole) + 1
                        yield Lines(log, offset, whole + newline)
        except RpcError as exc:
            rest += b"\n" if rest else b""
            rest += b"" if exc.code in _NO_LOG else self._note(run, member, exc)
        if rest:
            yield Lines(log, offset, rest.removesuffix(b"\n") + b"\n")

    async def changes(self, job: JobId) -> AsyncGenerator[bool]:
        """Yield at once and at each change of a job whether there may be more logs."""
        with self._store.changes.watch(job) as changed:
            while True:
                changed.clear()
                known = await until_read(lambda: self._store.job(job))
                is_open = known is not None and not known.is_final and not self._store.changes.is_closed
                yield is_open
                if not is_open:
                    return
                await changed.wait()

    def _note(self, run: TaskRun, member: Member, exc: RpcError) -> bytes:
        where = {"party": self._party, "job": run.job, "task": run.task, "attempt": run.attempt, "role": member.role}
        message = f"the log of {member} breaks off: {exc.message}. {exc.hint}"
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": "ERROR", "service": "flow"}
        return json.dumps(line | where | {"message": message}).encode()


class _Follower:
    """Follows all logs of one job at once, each from when its task starts."""

    def __init__(self, logs: Logs, job: JobId, role: str | None, offsets: Mapping[str, int]) -> None:
        self._logs = logs
        self._job = job
        self._role = role
        self._offsets = offsets
        self._queue: asyncio.Queue[Lines | None] = asyncio.Queue(_QUEUE_LENGTH)

    async def lines(self) -> AsyncGenerator[Lines]:
        reading = asyncio.create_task(self._read_all())
        try:
            while (lines := await self._queue.get()) is not None:
                yield lines
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read_all(self) -> None:
        try:
            await self._read_each()
        except ExceptionGroup as exc:
            await self._queue.put(None)
            raise exc.exceptions[0] from None
        await self._queue.put(None)

    async def _read_each(self) -> None:
        started: set[_Log] = set()
        async with asyncio.TaskGroup() as group, aclosing(self._logs.changes(self._job)) as changes:
            async for _ in changes:
                for log in await until_read(lambda: self._logs.logs(self._job, self._role)):
                    if log not in started:
                        started.add(log)
                        group.create_task(self._read(log))

    async def _read(self, log: _Log) -> None:
        async with aclosing(self._logs.lines(*log, self._offsets, follow=True)) as read:
            async for lines in read:
                await self._queue.put(lines)


def _age(role: RoleRun) -> tuple[float, int]:
    return (role.started_at or role.ended_at or 0.0, role.run.attempt)
