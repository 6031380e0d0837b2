"""The federation service: the mailbox with its two listeners and its operations listener.

Owns putting the parts together, in order, and taking them apart. Does not own what they do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from fedparty.crypto.files import read_secret
from fedparty.crypto.revocations import Revocations
from fedparty.crypto.tokens import TokenVerifier
from fedparty.federation.local_service import LocalService
from fedparty.federation.mailbox import Mailbox
from fedparty.federation.metrics import MailboxMetrics
from fedparty.federation.peer_service import PeerService
from fedparty.rpc import logging as service_logging
from fedparty.rpc.epochs import HighestEpoch
from fedparty.rpc.identity import StreamGuard
from fedparty.rpc.operations import new_registry, serve_operations
from fedparty.rpc.server import start_server
from fedparty.rpc.stream import keep_chunk_memory
from fedparty.settings import FederationSettings

logger = logging.getLogger(__name__)

_GRACE_S = 2.0
_EPOCH = "leader-epoch"
"""The file with the highest epoch seen, beside the spool."""


async def serve(settings: FederationSettings, stop: asyncio.Event) -> None:
    """Run the mailbox until `stop` is set, then stop it gracefully.

    Raises
    ------
    FedpartyError
        It cannot start: an address or the spool is taken, a file of the bundle is absent.
    """
    service_logging.bind(service="federation", party=settings.party)
    keep_chunk_memory()
    registry = new_registry()
    async with AsyncExitStack() as stack:
        mailbox = await stack.enter_async_context(_open_mailbox(settings))
        await stack.enter_async_context(_serve_mailbox(settings, mailbox, registry))
        await stack.enter_async_context(serve_operations(settings.operations, _readiness, registry))
        logger.info("the mailbox is ready: local %s, peer %s", settings.local, settings.peer)
        await stop.wait()
        logger.info("the mailbox is being stopped")


async def _readiness() -> dict[str, str]:
    """The mailbox needs no neighbour: it is ready as soon as it listens."""
    return {}


@asynccontextmanager
async def _open_mailbox(settings: FederationSettings) -> AsyncIterator[Mailbox]:
    mailbox = Mailbox(settings.spool, settings.spool_quota_bytes)
    await mailbox.open()
    try:
        yield mailbox
    finally:
        await mailbox.shut()


@asynccontextmanager
async def _serve_mailbox(
    settings: FederationSettings, mailbox: Mailbox, registry: CollectorRegistry
) -> AsyncIterator[None]:
    verifier = TokenVerifier(settings.ca_certificate, settings.revocations, settings.federation)
    guard = StreamGuard(Revocations(settings.revocations))
    metrics = MailboxMetrics(mailbox, registry)
    peer = PeerService(
        mailbox,
        party=settings.party,
        federation=settings.federation,
        secret=read_secret(settings.proxy_secret),
        verifier=verifier,
        guard=guard,
        metrics=metrics,
    )
    epoch = HighestEpoch(settings.spool.with_name(_EPOCH))
    local = LocalService(mailbox, party=settings.party, verifier=verifier, epoch=epoch, metrics=metrics)
    async with AsyncExitStack() as stack:
        for address, handlers in ((settings.peer, peer.handlers()), (settings.local, local.handlers())):
            server = await start_server(address, [handlers])
            stack.push_async_callback(server.stop, _GRACE_S)
        await stack.enter_async_context(guard.watching())
        yield
        mailbox.end_waiting()
