"""The operations listener of a service: HTTP /healthz, /readyz and /metrics, inside only; of a replica also /leader.

Owns the paths. Does not own what makes a service ready, which replica leads, nor its metrics.
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

Leads = Callable[[], bool]
"""Returns whether this replica leads now."""

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
async def serve_operations(
    address: str, readiness: Readiness, registry: CollectorRegistry, leads: Leads | None = None
) -> AsyncIterator[None]:
    """Serve the operations listener while the block runs.

    Parameters
    ----------
    leads
        Of a service with replicas: /leader answers 200 while it returns True, and 503 else; /readyz names the role.

    Raises
    ------
    ConfigurationError
        The address is taken or cannot be used.
    """
    async with watching_lag(registry), serve_http(address, _Operations(readiness, registry, leads), grace_s=_GRACE_S):
        yield


class _Operations:
    """The ASGI application."""

    def __init__(self, readiness: Readiness, registry: CollectorRegistry, leads: Leads | None = None) -> None:
        self._readiness = readiness
        self._registry = registry
        self._leads = leads

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
            return self._ready(await self._readiness())
        if path == "/leader" and self._leads is not None:
            return _json(200 if self._leads() else 503, self._role())
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        return _json(404, {"error": "there are /healthz, /readyz and /metrics"})

    def _ready(self, waiting_for: dict[str, str]) -> _Answer:
        if waiting_for:
            return _json(503, {"ready": False, "waiting_for": waiting_for, **self._role()})
        return _json(200, {"ready": True, **self._role()})

    def _role(self) -> dict[str, str]:
        """Return whether this replica leads; of a service that has no replicas, nothing."""
        if self._leads is None:
            return {}
        return {"role": "leader" if self._leads() else "standby"}


def _json(status: int, body: Mapping[str, object]) -> _Answer:
    return status, "application/json", json.dumps(body).encode()
