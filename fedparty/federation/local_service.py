"""What this party's own flow and tasks may do at the mailbox: register and close tasks, receive objects.

Owns `fedparty.v1.local.Mailbox` and who may call it. Does not own storing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from fedparty.crypto.tokens import TokenVerifier
from fedparty.federation import names
from fedparty.federation.mailbox import Mailbox
from fedparty.federation.metrics import MailboxMetrics
from fedparty.rpc import catalogue, server
from fedparty.rpc.channels import bearer_of
from fedparty.rpc.epochs import HighestEpoch
from fedparty.rpc.server import Context, Handlers
from fedparty.rpc.v1 import local_pb2
from fedparty.types import ObjectName, PartyId

SCOPE = "mailbox"
"""Of the service tokens that are accepted."""


class LocalService:
    """Serves this party alone.

    Parameters
    ----------
    party
        Who this is: every token must be its own.
    epoch
        Refuses a flow that leads no more.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        party: PartyId,
        verifier: TokenVerifier,
        epoch: HighestEpoch,
        metrics: MailboxMetrics,
    ) -> None:
        self._mailbox = mailbox
        self._party = party
        self._verifier = verifier
        self._epoch = epoch
        self._metrics = metrics

    def handlers(self) -> Handlers:
        """Return what a server serves."""
        return server.service(
            names.LOCAL_SERVICE,
            {
                "Register": server.unary(local_pb2.RegisterRequest, self._register),
                "Close": server.unary(local_pb2.CloseRequest, self._close),
                "Receive": server.server_stream(local_pb2.ReceiveRequest, self._receive),
                "Stats": server.unary(local_pb2.StatsRequest, self._stats),
            },
        )

    async def _register(self, request: local_pb2.RegisterRequest, context: Context) -> local_pb2.RegisterReply:
        self._admit_service(context)
        members = frozenset(map(names.member_from, request.members))
        if not any(member.party == self._party for member in members):
            raise catalogue.error("BAD_REQUEST", f"no member of {request.run.job} is at party {self._party}")
        await self._mailbox.register(names.run_from(request.run), members)
        return local_pb2.RegisterReply()

    async def _close(self, request: local_pb2.CloseRequest, context: Context) -> local_pb2.CloseReply:
        self._admit_service(context)
        await self._mailbox.close(*names.task_from(request.job, request.task))
        return local_pb2.CloseReply()

    async def _receive(self, request: local_pb2.ReceiveRequest, context: Context) -> AsyncIterator[bytes]:
        name = names.name_from(request.name)
        self._admit_receiver(name, context)
        async for message in self._mailbox.receive(name):
            yield message
            self._metrics.received_bytes.inc(len(message))

    async def _stats(self, _request: local_pb2.StatsRequest, context: Context) -> local_pb2.StatsReply:
        self._admit_service(context)
        now = self._mailbox.statistics()
        return local_pb2.StatsReply(
            used_bytes=now.used_bytes, quota_bytes=now.quota_bytes, objects=now.objects, tasks=now.tasks
        )

    def _admit_service(self, context: Context) -> None:
        claims = self._verifier.service(bearer_of(context), issuer=self._party, scope=SCOPE)
        self._epoch.admit(claims.epoch)

    def _admit_receiver(self, name: ObjectName, context: Context) -> None:
        claims = self._verifier.task(bearer_of(context), issuer=self._party)
        if claims.run != name.run or claims.member != name.receiver:
            raise catalogue.error("NOT_ALLOWED", f"the token of {claims.member} in {claims.run} is not for {name}")
