"""The REST application.

Owns putting the paths together. Does not own TLS: the proxy ends it where REST is published.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, Security
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp

from fedparty import __version__
from fedparty.flow.api import audit, code, components, errors, jobs, metrics, party, people, policy, tables
from fedparty.flow.api.backend import Backend
from fedparty.flow.api.gate import Gate
from fedparty.flow.api.views import ErrorView
from fedparty.jobs.description import MAX_BYTES

_REFUSALS = (400, 401, 403, 413, 422, 503)
"""What any path may answer: no JSON, no token, too low a role, too large, not as documented, a neighbour is away."""


def create_app(backend: Backend, token_place: str) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    backend
        What it works on.
    token_place
        Where a person finds the built-in admin's token.
    """
    # No page at /docs: FastAPI's loads its scripts from a public server, which a party's network need not reach.
    app = FastAPI(title=f"fedparty, party {backend.party}", version=__version__, docs_url=None, redoc_url=None)
    errors.install(app)
    shown = Security(HTTPBearer(auto_error=False, description=f"A user's token, or the one from {token_place}"))
    for paths in (jobs, code, metrics, components, tables, party, people, policy, audit):
        refusals: dict[int | str, dict[str, Any]] = {status: {"model": ErrorView} for status in _REFUSALS}
        app.include_router(paths.router(backend), dependencies=[shown], responses=refusals)

    @app.get("/v1/ca", tags=["party"], response_class=PlainTextResponse)
    async def ca() -> str:
        """Show the federation's CA, PEM, without a token: compare its fingerprint before you trust it."""
        return await asyncio.to_thread(backend.ca_certificate.read_text)

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, bool]:
        """Answer that the service runs."""
        return {"healthy": True}

    return Gate(
        app, backend.party, backend.people, backend.audit, backend.store.job, token_place, MAX_BYTES, backend.term
    )
