"""The REST application.

Owns putting the paths together. Does not own TLS: the proxy ends it where REST is published.
"""

from __future__ import annotations

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp

from fedparty import __version__
from fedparty.flow.api import errors, jobs, party
from fedparty.flow.api.backend import Backend
from fedparty.flow.api.gate import Gate
from fedparty.flow.api.views import ErrorView
from fedparty.flow.description import MAX_BYTES
from fedparty.types import Secret


def create_app(backend: Backend, token: Secret, token_place: str) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    backend
        What it works on.
    token, token_place
        What every request under ``/v1`` must show, and where a person finds it.
    """
    # No page at /docs: FastAPI's loads its scripts from a public server, which a party's network need not reach.
    app = FastAPI(title=f"fedparty, party {backend.party}", version=__version__, docs_url=None, redoc_url=None)
    errors.install(app)
    shown = Security(HTTPBearer(auto_error=False, description=f"The token from {token_place}"))
    for router in (jobs.router(backend), party.router(backend)):
        app.include_router(router, dependencies=[shown], responses={401: {"model": ErrorView}})

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, bool]:
        """Answer that the service runs."""
        return {"healthy": True}

    return Gate(app, token, token_place, MAX_BYTES)
