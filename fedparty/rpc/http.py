"""HTTP listeners: an ASGI application on a Unix socket or a port, while a block runs.

Owns how uvicorn is set up in a service. Does not own what is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from fedparty.rpc import sockets


@asynccontextmanager
async def serve_http(address: str, application: Any, *, grace_s: int) -> AsyncIterator[None]:
    """Serve an ASGI application while the block runs.

    Parameters
    ----------
    grace_s
        How long requests may go on when the block ends.

    Raises
    ------
    ConfigurationError
        The address is taken or cannot be used.
    """
    listener = sockets.bind(address)
    server = _Server(
        uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=grace_s,
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
