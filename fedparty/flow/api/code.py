"""REST: bring a job's own code, and get it back.

Owns the paths ``/v1/code`` and ``/v1/jobs/{id}/code``. Does not own what may be in it, nor who may run it.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from fedparty.flow.api.backend import Backend
from fedparty.flow.api.streams import known
from fedparty.flow.api.views import ErrorView
from fedparty.rpc import catalogue

_WRONG: dict[int | str, dict[str, Any]] = {400: {"model": ErrorView}, 413: {"model": ErrorView}}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView}}
_MEDIA_TYPE = "application/zip"
_BODY = {
    "requestBody": {"required": True, "content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


def router(backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1", tags=["jobs"])

    @routes.put("/code/{sha256}", status_code=204, responses=_WRONG, openapi_extra=_BODY)
    async def bring(sha256: Digest, request: Request) -> None:
        """Bring the archive of a job's own code before the job is submitted; its SHA-256 is in the path."""
        await backend.codes.put(sha256, await request.body())

    @routes.get("/jobs/{job_id}/code", responses=_UNKNOWN, response_class=Response)
    async def show(job_id: str) -> Response:
        """Return the archive of a job's own code."""
        job = await known(backend, job_id)
        if job.description.code is None:
            raise catalogue.error("NOT_KNOWN", f"job {job.id} has no code of its own")
        return Response(await backend.codes.get(job.description.code.sha256), media_type=_MEDIA_TYPE)

    return routes
