"""REST: logs and figures as streams, of this party's own roles or of those that another party shows.

Owns what these paths have in common: what is asked, and the two forms of the answer, JSON lines and Server-Sent Events.
Does not own what is read: `Logs`, `Viewing`.

A stream that cannot go on ends with an error of the usual shape, as its last line or as the event ``error``; event
streams that end well do so with the event ``end``.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Header, Query
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import StringConstraints

from fedparty.errors import FedpartyError
from fedparty.flow.api.backend import Backend
from fedparty.flow.api.errors import code_of
from fedparty.flow.logs import Lines
from fedparty.flow.records import Job
from fedparty.jobs.description import MAX_TASKS
from fedparty.rpc import catalogue
from fedparty.settings import Party
from fedparty.types import ROLE, TASK_NAME, JobId

EVENTS, LINES = "text/event-stream", "application/x-ndjson"

RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {LINES: {}, EVENTS: {}}}}
"""For the OpenAPI."""

PING_S = 15.0
"""How often an event stream with nothing to tell says that it is there."""

_PING = format_sse_event(comment="nothing new")
_OFFSET = rf"{TASK_NAME.pattern}/[0-9]{{1,5}}/{ROLE.pattern}:[0-9]{{1,18}}"
_EVENT_ID = re.compile(rf"{_OFFSET}(,{_OFFSET})*")
_MAX_EVENT_ID = 50_000
"""As much as proxy and listener take in a header."""

Kind = Literal["logs", "metrics"]
Offset = Annotated[str, StringConstraints(pattern=rf"^{_OFFSET}$")]


@dataclass(frozen=True)
class Asked:
    """What is asked, as the parameters of a path's function."""

    job_id: str
    role: str | None = None
    party: Annotated[Party | None, Query(description="whose roles; another's where its policy shows them")] = None
    follow: Annotated[bool | None, Query(description="go on until the job has ended; default: events do")] = None
    positions: Annotated[bool, Query(description="say after its lines how far a log was read")] = False
    offset: Annotated[tuple[Offset, ...], Query(max_length=MAX_TASKS, description="go on from such a position")] = ()
    accept: Annotated[str, Header(include_in_schema=False)] = ""
    last_event_id: Annotated[str, Header(description="go on after this event")] = ""

    @property
    def is_events(self) -> bool:
        """Whether Server-Sent Events are wanted."""
        return EVENTS in self.accept

    def offsets(self) -> dict[str, int]:
        """Return from where on logs are read.

        Raises
        ------
        RpcError
            BAD_REQUEST: the id of the last event is none.
        """
        words: tuple[str, ...] = self.offset
        if self.last_event_id:
            if not _EVENT_ID.fullmatch(self.last_event_id):
                raise catalogue.error("BAD_REQUEST", "Last-Event-ID is no id of these events", hint="Leave it out.")
            words += tuple(self.last_event_id.split(","))
        return {log: int(read) for log, _, read in (each.rpartition(":") for each in words)}


async def answer(backend: Backend, kind: Kind, asked: Asked) -> StreamingResponse:
    """Return the stream that is asked for.

    Raises
    ------
    RpcError
        There is no such job or role; or another party is asked, and does not show it or is not reached.
    """
    job = await known(backend, asked.job_id)
    offsets = asked.offsets()
    follow = asked.is_events if asked.follow is None else asked.follow
    if asked.party in (None, backend.party):
        check_role(backend, job, asked.role)
        lines = backend.kinds[kind].read(job.id, asked.role, follow=follow, offsets=offsets)
    else:
        lines = backend.viewing.read(job, asked.party, kind, asked.role, offsets, follow=follow)
        await anext(lines, None)  # nothing yet, but that it is shown
    if asked.is_events:
        return StreamingResponse(_events(lines, offsets), media_type=EVENTS, headers={"cache-control": "no-store"})
    return StreamingResponse(_lines(lines, is_placed=asked.positions), media_type=LINES)


async def known(backend: Backend, job_id: str) -> Job:
    """Return a job that this party knows.

    Raises
    ------
    RpcError
        NOT_KNOWN
    """
    job = await backend.store.job(JobId(job_id))
    if job is None:
        raise catalogue.error("NOT_KNOWN", f"party {backend.party} knows no job {job_id[:60]!r}")
    return job


def check_role(backend: Backend, job: Job, role: str | None) -> None:
    """Make sure that this party plays a role of a job; None: any.

    Raises
    ------
    RpcError
        NOT_KNOWN: it does not; who does is named.
    """
    own = [member.role for member in job.description.members_at(backend.party)]
    if role is None or role in own:
        return
    others = ", ".join(job.description.roles.get(role, ()))
    hint = f"It is played by party {others}: --party shows its logs and metrics, where that party's policy does."
    hint = hint if others else f"This party's roles: {', '.join(own) or 'none'}."
    raise catalogue.error("NOT_KNOWN", f"party {backend.party} has no role {role!r} in job {job.id}", hint=hint)


async def _lines(read: AsyncGenerator[Lines], *, is_placed: bool) -> AsyncIterator[bytes]:
    """Yield JSON lines; with `is_placed`, lines of their own say how far a log was read."""
    try:
        async with aclosing(read):
            async for lines in read:
                place = {"log": lines.log, "offset": lines.offset}
                yield lines.content + (json.dumps(place).encode() + b"\n" if is_placed and lines.content else b"")
    except FedpartyError as exc:
        yield json.dumps(_told(exc)).encode() + b"\n"


async def _events(read: AsyncGenerator[Lines], offsets: Mapping[str, int]) -> AsyncIterator[bytes]:
    """Yield events: each is one or several lines, its id says how far every log was read."""
    so_far = dict(offsets)
    try:
        async with aclosing(_with_pings(read)) as arriving:
            async for lines in arriving:
                if lines is None:
                    yield _PING
                elif lines.content:
                    so_far[lines.log] = lines.offset
                    name = ",".join(f"{log}:{offset}" for log, offset in so_far.items())
                    text = lines.content.decode(errors="backslashreplace").removesuffix("\n")
                    yield format_sse_event(data_str=text, id=name if len(name) <= _MAX_EVENT_ID else None)
        yield format_sse_event(event="end", data_str="{}")
    except FedpartyError as exc:
        yield format_sse_event(event="error", data_str=json.dumps(_told(exc)))


async def _with_pings(read: AsyncGenerator[Lines]) -> AsyncGenerator[Lines | None]:
    """Yield what is read, and None whenever nothing came for a while."""
    async with aclosing(read):
        coming = asyncio.ensure_future(anext(read, None))
        try:
            while True:
                await asyncio.wait((coming,), timeout=PING_S)
                if not coming.done():
                    yield None
                    continue
                lines = coming.result()
                if lines is None:
                    return
                coming = asyncio.ensure_future(anext(read, None))
                yield lines
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def _told(exc: FedpartyError) -> dict[str, str]:
    return {"error": exc.message, "hint": exc.hint, "code": code_of(exc)}
