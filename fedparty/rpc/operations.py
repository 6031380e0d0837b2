"""The operations listener of a service: HTTP /healthz, /readyz and /metrics, inside only.

Owns the three paths. Does not own what makes a service ready, nor its metrics.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from fedparty.rpc.http import serve_http
from fedparty.rpc.lag import watching_lag

Readiness = Callable[[], Awaitable[dict[str, str]]]
"""Returns what the service still waits for, by neighbour, e.g. ``{"mailbox": "no answer"}``; empty: it is ready."""

_GRACE_S = 1

_Answer = tuple[int, str, bytes]


def new_registry() -> CollectorRegistry:
    """Return a metrics registry of one service, with those of its process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


@asynccontextmanager
async def serve_operations(address: str, readiness: Readiness, registry: CollectorRegistry) -> AsyncIterator[None]:
    """Serve the operations listener while the block runs.

    Raises
    ------
    ConfigurationError
        The address is taken or cannot be used.
    """
    async with watching_lag(registry), serve_http(address, _Operations(readiness, registry), grace_s=_GRACE_S):
        yield


class _Operations:
    """The ASGI application."""

    def __init__(self, readiness: Readiness, registry: CollectorRegistry) -> None:
        self._readiness = readiness
        self._registry = registry

    async def __call__(
        self, scope: Mapping[str, Any], _receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        status, content_type, body = await self._answer(scope["method"], scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, method: str, path: str) -> _Answer:
        if method not in ("GET", "HEAD"):
            return _json(405, {"error": "only GET"})
        if path == "/healthz":
            return _json(200, {"healthy": True})
        if path == "/readyz":
            waiting_for = await self._readiness()
            return (
                _json(503, {"ready": False, "waiting_for": waiting_for}) if waiting_for else _json(200, {"ready": True})
            )
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        return _json(404, {"error": "there are /healthz, /readyz and /metrics"})


def _json(status: int, body: Mapping[str, object]) -> _Answer:
    return status, "application/json", json.dumps(body).encode()
