"""The REST application and its listener.

Owns putting the paths together and serving them. Does not own TLS: the proxy ends it where REST is published.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp

from fedparty import __version__
from fedparty.flow.api import errors, jobs, party
from fedparty.flow.api.backend import Backend
from fedparty.flow.api.gate import Gate
from fedparty.flow.api.views import ErrorView
from fedparty.flow.description import MAX_BYTES
from fedparty.rpc import sockets
from fedparty.types import Secret

_GRACE_S = 2


def create_app(backend: Backend, token: Secret, token_place: str) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    backend
        What it works on.
    token, token_place
        What every request under ``/v1`` must show, and where a person finds it.
    """
    app = FastAPI(title=f"fedparty, party {backend.party}", version=__version__)
    errors.install(app)
    shown = Security(HTTPBearer(auto_error=False, description=f"The token from {token_place}"))
    for router in (jobs.router(backend), party.router(backend)):
        app.include_router(router, dependencies=[shown], responses={401: {"model": ErrorView}})

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, bool]:
        """Answer that the service runs."""
        return {"healthy": True}

    return Gate(app, token, token_place, MAX_BYTES)


@asynccontextmanager
async def serve_rest(address: str, app: ASGIApp) -> AsyncIterator[None]:
    """Serve `app` while the block runs.

    Raises
    ------
    ConfigurationError
        The address is taken or cannot be used.
    """
    listener = sockets.bind(address)
    server = _Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
        listener.close()
        sockets.release(address)


class _Server(uvicorn.Server):
    """Leaves the process's signals to whoever runs the service."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
