"""REST: the figures that are recorded in a job, and the files that this party's own roles keep.

Owns the paths ``/v1/jobs/{id}/metrics`` and ``/v1/jobs/{id}/outputs``. Does not own what they do: `streams`,
`Launcher`.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from fedparty.flow.api import streams
from fedparty.flow.api.backend import Backend
from fedparty.flow.api.streams import known
from fedparty.flow.api.views import ErrorView
from fedparty.flow.records import Job, RoleRun
from fedparty.flow.states import State
from fedparty.rpc import catalogue

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView}}


class OutputView(BaseModel):
    """A file that a role has kept."""

    task: str
    attempt: int
    role: str
    name: str
    size_bytes: int


class OutputsView(BaseModel):
    """The files that this party's roles of a job have kept."""

    outputs: list[OutputView]


def router(backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @routes.get("/{job_id}/metrics", responses=_UNKNOWN | streams.RESPONSES, response_class=StreamingResponse)
    async def metrics(asked: Annotated[streams.Asked, Depends()]) -> StreamingResponse:
        """Stream figures as they were recorded; parameters and forms are those of the logs."""
        return await streams.answer(backend, "metrics", asked)

    @routes.get("/{job_id}/outputs", responses=_UNKNOWN)
    async def outputs(job_id: str) -> OutputsView:
        """List the files that this party's own roles have kept, of every attempt that has ended."""
        found = []
        for each in await _ended(backend, await known(backend, job_id)):
            files = await backend.site.launcher.list_outputs(each.run, each.member)
            run, role = each.run, each.member.role
            found += [
                OutputView(task=run.task, attempt=run.attempt, role=role, name=name, size_bytes=size)
                for name, size in files.items()
            ]
        return OutputsView(outputs=found)

    @routes.get("/{job_id}/outputs/file", responses=_UNKNOWN)
    async def read_output(
        job_id: str, task: str, attempt: int, role: str, name: str, offset: Annotated[int, Query(ge=0)] = 0
    ) -> StreamingResponse:
        """Stream one of these files, from a byte on."""
        ended = await _ended(backend, await known(backend, job_id))
        asked = [each for each in ended if (each.run.task, each.run.attempt, each.member.role) == (task, attempt, role)]
        if not asked:
            message = f"{task}/{attempt}/{role} of job {job_id} has not ended at party {backend.party}"
            raise catalogue.error("NOT_KNOWN", message)
        run, member = asked[0].run, asked[0].member
        sizes = await backend.site.launcher.list_outputs(run, member)
        if name not in sizes:
            raise catalogue.error("NOT_KNOWN", f"{member} has kept no file {name[:200]!r} in {run}")
        if offset > sizes[name]:
            raise catalogue.error("BAD_REQUEST", f"{name} has {sizes[name]} bytes", hint="Begin at one of them.")
        return StreamingResponse(
            backend.site.launcher.read_output(run, member, name, offset),
            media_type="application/octet-stream",
            headers={"content-length": str(sizes[name] - offset)},
        )

    return routes


async def _ended(backend: Backend, job: Job) -> list[RoleRun]:
    roles = await backend.store.role_runs(job.id, party=backend.party)
    return [role for role in roles if role.state not in (State.WAITING, State.RUNNING) and role.started_at is not None]
