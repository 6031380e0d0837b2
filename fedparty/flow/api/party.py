"""REST: this party, and whether it reaches another one.

Owns the paths under ``/v1/party``.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from fedparty import __version__
from fedparty.flow.api.backend import Backend
from fedparty.flow.api.views import ErrorView, PartyView, PingView
from fedparty.flow.messages import PROTOCOL
from fedparty.types import PARTY_ID, PartyId


def router(backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1/party", tags=["party"])

    @routes.get("")
    async def show() -> PartyView:
        """Show this party and what it offers."""
        resources = backend.site.resources
        return PartyView(
            id=backend.party,
            federation=backend.federation,
            version=__version__,
            protocol=PROTOCOL,
            cores=resources.total.cores,
            free_cores=resources.free.cores,
            memory_bytes=resources.total.memory_bytes,
            free_memory_bytes=resources.free.memory_bytes,
            gpus=resources.total.gpus,
            free_gpus=resources.free.gpus,
            waiting=resources.waiting,
        )

    @routes.get("/ping", responses={404: {"model": ErrorView}, 503: {"model": ErrorView}})
    async def ping(to: Annotated[str, Query(pattern=f"^{PARTY_ID.pattern}$")]) -> PingView:
        """Ask another party's flow who it is: through both proxies; an error says which hop is broken."""
        answer = await backend.peers.ping(PartyId(to))
        return PingView(
            party=answer.party,
            version=answer.version,
            protocol=answer.protocol,
            elapsed_ms=round(answer.elapsed_s * 1000, 3),
        )

    return routes
