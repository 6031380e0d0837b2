"""REST: submit, watch, stop jobs, read their logs.

Owns the paths under ``/v1/jobs``. Does not own what they do: `Scheduler`, `Site`, `Logs`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from fedparty.flow.api.backend import Backend
from fedparty.flow.api.views import ErrorView, JobsView, JobView, summary_of, view_of
from fedparty.flow.description import JobDescription
from fedparty.flow.records import Job, Outcome
from fedparty.flow.states import State
from fedparty.rpc import catalogue
from fedparty.types import JobId

MAX_WAIT_S = 60.0
"""How long a request waits for a job to change."""

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView}}


def router(backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @routes.post("", status_code=201, responses={400: {"model": ErrorView}, 422: {"model": ErrorView}})
    async def submit(description: JobDescription) -> JobView:
        """Submit a job in this party's name."""
        return view_of(await backend.scheduler.submit(description), ())

    @routes.get("")
    async def list_jobs(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> JobsView:
        """List the newest jobs that this party submitted or took part in."""
        return JobsView(jobs=[summary_of(job) for job in await backend.store.jobs(limit)])

    @routes.get("/{job_id}", responses=_UNKNOWN)
    async def show(
        job_id: str,
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] = 0,
        known_state: State | None = None,
    ) -> JobView:
        """Show a job; with `wait_s`, as soon as its state is not `known_state` (else: the present one) or final."""
        job = await _changed(backend, await _known(backend, job_id), wait_s, known_state)
        return view_of(job, await backend.store.role_runs(job.id))

    @routes.post("/{job_id}/stop", responses=_UNKNOWN)
    async def stop(job_id: str) -> JobView:
        """Stop a job: everywhere where this party submitted it, else this party's part, which ends it for all."""
        job = await _known(backend, job_id)
        await _stop(backend, job)
        return view_of(await _known(backend, job_id), await backend.store.role_runs(job.id))

    @routes.get("/{job_id}/logs", responses=_UNKNOWN, response_class=StreamingResponse)
    async def logs(job_id: str, role: str | None = None, follow: bool = False) -> StreamingResponse:
        """Stream the logs of this party's own roles, JSON lines; with `follow` until the job has ended."""
        job = await _known(backend, job_id)
        _check_role(backend, job, role)
        return StreamingResponse(backend.logs.read(job.id, role, follow=follow), media_type="application/x-ndjson")

    return routes


async def _known(backend: Backend, job_id: str) -> Job:
    job = await backend.store.job(JobId(job_id))
    if job is None:
        raise catalogue.error("NOT_KNOWN", f"party {backend.party} knows no job {job_id[:60]!r}")
    return job


async def _changed(backend: Backend, job: Job, wait_s: float, known: State | None) -> Job:
    """Return the job once its state differs from the known one, it has ended, or the time is over."""
    known = known or job.state
    with backend.store.changes.watch(job.id) as changed:
        try:
            async with asyncio.timeout(wait_s):
                while job.state is known and not job.is_final and not backend.store.changes.is_closed:
                    changed.clear()
                    job = await _known(backend, job.id)
                    if job.state is known and not job.is_final:
                        await changed.wait()
        except TimeoutError:
            pass
    return job


async def _stop(backend: Backend, job: Job) -> None:
    reason = f"stopped by the people of party {backend.party}"
    if job.initiator == backend.party:
        await backend.scheduler.stop(job, reason)
    else:
        await backend.site.end(job.id, Outcome(State.CANCELED, reason))


def _check_role(backend: Backend, job: Job, role: str | None) -> None:
    own = [member.role for member in job.description.members_at(backend.party)]
    if role is None or role in own:
        return
    others = ", ".join(job.description.roles.get(role, ()))
    hint = f"Its log is at party {others}." if others else f"This party's roles: {', '.join(own) or 'none'}."
    raise catalogue.error("NOT_KNOWN", f"party {backend.party} has no role {role!r} in job {job.id}", hint=hint)
