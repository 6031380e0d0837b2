"""REST: submit, watch, stop jobs, read their logs.

Owns the paths under ``/v1/jobs``. Does not own what they do: `Scheduler`, `Site`, `streams`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from fedparty.flow.admission import Asked
from fedparty.flow.api import streams
from fedparty.flow.api.backend import Backend
from fedparty.flow.api.gate import Asking
from fedparty.flow.api.streams import known
from fedparty.flow.api.views import ErrorView, JobsView, JobView, summary_of, version_of, view_of
from fedparty.flow.audit import ALLOWED, Entry
from fedparty.flow.people import Principal
from fedparty.flow.records import Job, Outcome
from fedparty.flow.states import State
from fedparty.jobs.description import JobDescription

MAX_WAIT_S = 60.0
"""How long a request waits for a job to change."""

_CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": ErrorView}}
_KEY = r"^[\x21-\x7e]{1,64}$"
"""What an idempotency key may be: visible ASCII."""
_MATCH = "^[0-9A-Z-]{0,40}$"

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView}}


def router(backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @routes.post("", status_code=201, responses={400: {"model": ErrorView}, 422: {"model": ErrorView}})
    async def submit(
        description: JobDescription,
        by: Asking,
        request: Request,
        x_fedparty_signature: Annotated[str, Header(max_length=4096)] = "",
        idempotency_key: Annotated[str | None, Header(pattern=_KEY)] = None,
    ) -> JobView:
        """Submit a job in this party's name; `X-Fedparty-Signature` is the user's signature of the body.

        With an `Idempotency-Key` the request may be repeated: the same key of the same user is answered with the same
        job, as long as that is kept; with another body it is refused.
        """
        text = (await request.body()).decode() if x_fedparty_signature else ""
        asked = Asked(by, x_fedparty_signature, text, idempotency_key or "")
        job = await backend.scheduler.submit(description, asked)
        return view_of(job, await backend.store.role_runs(job.id) if job.started_at else ())

    @routes.get("", responses=_UNKNOWN)
    async def list_jobs(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        state: Annotated[list[State], Query()] = [],  # noqa: B006 - FastAPI copies it
        before: str | None = None,
        match: Annotated[str, Query(pattern=_MATCH)] = "",
    ) -> JobsView:
        """List the newest jobs that this party submitted or took part in, newest first.

        `state` may be given several times; `before` is the id of the last job of the page before; `match` is how an id
        begins or ends.
        """
        last = (await known(backend, before)).head if before is not None else None
        jobs = await backend.store.jobs(limit, states=state, before=last, match=match)
        return JobsView(jobs=[summary_of(job) for job in jobs])

    @routes.get("/{job_id}", responses=_UNKNOWN)
    async def show(
        job_id: str,
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] = 0,
        known_state: State | None = None,
        known_version: Annotated[str, Query(max_length=64)] = "",
    ) -> JobView:
        """Show a job; with `wait_s`, once its state is not `known_state` (else: the present one), or it has ended.

        With `known_version`, the `version` of an earlier answer, also once the state of a task's role is another one.
        """
        job = await known(backend, job_id)
        job = await _changed(backend, job, wait_s, _differs_from(backend, known_state or job.state, known_version))
        return view_of(job, await backend.store.role_runs(job.id))

    @routes.get("/{job_id}/description", responses=_UNKNOWN)
    async def describe(job_id: str) -> JSONResponse:
        """Show what a job is to do, as it was submitted."""
        return JSONResponse(json.loads((await known(backend, job_id)).text))

    @routes.delete("/{job_id}", status_code=204, responses=_UNKNOWN | _CONFLICT)
    async def delete(job_id: str) -> None:
        """Delete a job that has ended, at this party: what is recorded of it, its logs and its files."""
        await backend.site.delete((await known(backend, job_id)).id)

    @routes.post("/{job_id}/stop", responses=_UNKNOWN)
    async def stop(job_id: str, by: Asking) -> JobView:
        """Stop a job: everywhere where this party submitted it, else this party's part, which ends it for all."""
        job = await known(backend, job_id)
        await _stop(backend, job, by)
        return view_of(await known(backend, job_id), await backend.store.role_runs(job.id))

    @routes.get("/{job_id}/logs", responses=_UNKNOWN | streams.RESPONSES, response_class=StreamingResponse)
    async def logs(asked: Annotated[streams.Asked, Depends()]) -> StreamingResponse:
        """Stream logs, of this party's own roles or of those that `party` shows, as JSON lines or as events.

        With `positions`, lines ``{"log": "TASK/ATTEMPT/ROLE", "offset": BYTES}`` say how far each log was read. To go
        on from there, give them back: ``offset=TASK/ATTEMPT/ROLE:BYTES``, once for each log. With the header
        ``Accept: text/event-stream`` each event is one or several lines; to go on after one, give its id back in the
        header ``Last-Event-ID``.
        """
        return await streams.answer(backend, "logs", asked)

    return routes


def _differs_from(backend: Backend, state: State, version: str) -> Callable[[Job], Awaitable[bool]]:
    """Return what tells whether a job is not any more as a client knows it."""

    async def differs(job: Job) -> bool:
        if job.state is not state or not version:
            return job.state is not state
        return version_of(job, await backend.store.role_runs(job.id)) != version

    return differs


async def _changed(backend: Backend, job: Job, wait_s: float, differs: Callable[[Job], Awaitable[bool]]) -> Job:
    """Return the job once it differs from what is known, it has ended, or the time is over."""
    with backend.store.changes.watch(job.id) as changed:
        try:
            async with asyncio.timeout(wait_s):
                while not job.is_final and not backend.store.changes.is_closed:
                    changed.clear()
                    job = await known(backend, job.id)
                    if job.is_final or await differs(job):
                        break
                    await changed.wait()
        except TimeoutError:
            pass
    return job


async def _stop(backend: Backend, job: Job, by: Principal) -> None:
    who = f"{by.name}@{backend.party}"
    reason = f"stopped by the people of party {backend.party}"
    await backend.audit.note(Entry(who, "stop", job.id, ALLOWED, f"as {by.role}"))
    if job.initiator == backend.party:
        await backend.scheduler.stop(job, reason)
    else:
        await backend.site.end(job.id, Outcome(State.CANCELED, reason))
