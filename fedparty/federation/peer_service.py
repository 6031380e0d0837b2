"""What other parties may do at the mailbox: deliver objects that their own members sent.

Owns `fedparty.v1.peer.Mailbox` and who may call it. Does not own storing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fedparty.crypto.tokens import TokenVerifier
from fedparty.errors import RpcError
from fedparty.federation import names
from fedparty.federation.mailbox import Mailbox
from fedparty.federation.metrics import MailboxMetrics
from fedparty.rpc import catalogue, server
from fedparty.rpc.identity import Caller, StreamGuard, caller_of
from fedparty.rpc.logging import log_context
from fedparty.rpc.server import Context, Handlers
from fedparty.rpc.stream import next_message
from fedparty.rpc.v1.peer_pb2 import DeliverHeader, DeliverReply
from fedparty.types import ObjectName, PartyId, Secret

_HEADER_TIMEOUT_S = 30.0


class PeerService:
    """Serves the proxy's ingress.

    Parameters
    ----------
    party, federation
        Who this is.
    secret
        By which the ingress proves that it is the ingress.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        party: PartyId,
        federation: str,
        secret: Secret,
        verifier: TokenVerifier,
        guard: StreamGuard,
        metrics: MailboxMetrics,
    ) -> None:
        self._mailbox = mailbox
        self._party = party
        self._federation = federation
        self._secret = secret
        self._verifier = verifier
        self._guard = guard
        self._metrics = metrics

    def handlers(self) -> Handlers:
        """Return what a server serves."""
        return server.service(names.PEER_SERVICE, {"Deliver": server.raw_client_stream(self._deliver)})

    async def _deliver(self, messages: AsyncIterator[bytes], context: Context) -> DeliverReply:
        try:
            caller = caller_of(context, self._secret, self._federation)
            async with self._guard.guarding(caller):
                await self._store(caller, messages)
        except RpcError as exc:
            self._metrics.refused.labels(exc.code).inc()
            raise
        return DeliverReply()

    async def _store(self, caller: Caller, messages: AsyncIterator[bytes]) -> None:
        header = server.parse(DeliverHeader, await _first_message(messages))
        name = names.name_from(header.name)
        self._admit(caller, name, header)
        header.ClearField("token")
        with log_context(job=name.run.job, task=name.run.task):
            await self._mailbox.deliver(name, header, messages)
        self._metrics.delivered.inc()
        self._metrics.delivered_bytes.inc(header.size_bytes)

    def _admit(self, caller: Caller, name: ObjectName, header: DeliverHeader) -> None:
        """Check that the caller is the sender's party, the token the sender's, and the receiver one of ours."""
        if name.sender.party != caller.party:
            raise catalogue.error("NOT_ALLOWED", f"party {caller.party} may not send in the name of {name.sender}")
        if name.receiver.party != self._party:
            raise catalogue.error("WRONG_PARTY", f"{name.receiver} is not at party {self._party}")
        claims = self._verifier.task(header.token, issuer=caller.party)
        if claims.run != name.run or claims.member != name.sender:
            raise catalogue.error("NOT_ALLOWED", f"the token of {claims.member} in {claims.run} is not for {name}")
        if name.receiver.party != caller.party and (why := claims.leaving.refusal(name.tag, header.size_bytes)):
            raise catalogue.error("NOT_ALLOWED", f"the policy of party {caller.party} does not let it leave: {why}")


async def _first_message(messages: AsyncIterator[bytes]) -> bytes:
    try:
        async with asyncio.timeout(_HEADER_TIMEOUT_S):
            return await next_message(messages)
    except TimeoutError:
        raise catalogue.error("DEADLINE", f"no header came within {_HEADER_TIMEOUT_S:.0f} s") from None
