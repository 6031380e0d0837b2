"""What other parties' flows, and this party's own by the same way, may ask of this one.

Owns the gRPC service `fedparty.v1.peer.Coordination`: who may call, and the translation of messages. Does not own what
is then done (`site`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

from fedparty import __version__
from fedparty.errors import DatabaseError, JobError
from fedparty.flow.admission import Admission
from fedparty.flow.background import until_read
from fedparty.flow.codes import Codes
from fedparty.flow.leadership.peers import PeerEpochs
from fedparty.flow.leadership.term import Term
from fedparty.flow.messages import (
    PROTOCOL,
    check_clock,
    check_protocol,
    end_of,
    job_of,
    offsets_of,
    report_of,
    run_of,
)
from fedparty.flow.records import Job
from fedparty.flow.showing import Showing
from fedparty.flow.site import Site
from fedparty.flow.states import State
from fedparty.flow.store import Store
from fedparty.jobs import description
from fedparty.rpc import catalogue, server
from fedparty.rpc.identity import StreamGuard, caller_of
from fedparty.rpc.logging import log_context
from fedparty.rpc.server import Context, Server
from fedparty.rpc.stream import next_message, read_bytes
from fedparty.rpc.v1 import peer_pb2
from fedparty.types import JobId, PartyId, Secret, TaskRun, initiator_of

_BRING_S = 300.0
"""How long a job's code may take to arrive."""


class Coordination:
    """The service.

    Parameters
    ----------
    site, store
        This party's part in jobs, and what it knows of them.
    admission
        Decides whether it takes part.
    showing
        What it shows to the job's initiator.
    codes
        The jobs' own code that is here.
    guard
        Ends the streams of revoked callers.
    epochs
        Ends those of a party's former leaders.
    term
        In which this flow may act.
    secret, federation
        By which callers are known.
    """

    def __init__(
        self,
        site: Site,
        admission: Admission,
        showing: Showing,
        store: Store,
        codes: Codes,
        guard: StreamGuard,
        epochs: PeerEpochs,
        term: Term,
        secret: Secret,
        federation: str,
    ) -> None:
        self._site = site
        self._admission = admission
        self._showing = showing
        self._store = store
        self._codes = codes
        self._guard = guard
        self._epochs = epochs
        self._term = term
        self._secret = secret
        self._federation = federation

    async def listen(self, address: str) -> Server:
        """Serve the proxy's ingress.

        Raises
        ------
        ConfigurationError
            The address is taken or cannot be used.
        """
        methods = {
            "Prepare": server.unary(peer_pb2.PrepareRequest, self.prepare),
            "Bring": server.raw_client_stream(self.bring),
            "Queue": server.server_stream(peer_pb2.PrepareRequest, self.queue),
            "Start": server.unary(peer_pb2.StartRequest, self.start),
            "Supervise": server.server_stream(peer_pb2.SuperviseRequest, self.supervise),
            "Stop": server.unary(peer_pb2.StopRequest, self.stop),
            "Show": server.server_stream(peer_pb2.ShowRequest, self.show),
            "Ping": server.unary(peer_pb2.PingRequest, self.ping),
        }
        return await server.start_server(address, [server.service("fedparty.v1.peer.Coordination", methods)])

    async def prepare(self, request: peer_pb2.PrepareRequest, context: Context) -> peer_pb2.PrepareReply:
        """Take this party's part in an attempt, or refuse it."""
        run = run_of(request.run)
        async with self._initiator(run.job, request.epoch, context) as caller:
            self._check(request, caller)
            with log_context(job=run.job, task=run.task):
                job = await self._admission.prepared(self._job(run, request))
                if not await self._codes.has(job.description):
                    return peer_pb2.PrepareReply(protocol=PROTOCOL, needs_code=True)
                await self._site.prepare(job, run)
        return peer_pb2.PrepareReply(protocol=PROTOCOL)

    async def bring(self, messages: AsyncIterator[bytes], context: Context) -> peer_pb2.BringReply:
        """Take in the code of a job that may run here; before that is decided, none of it is read."""
        request = server.parse(peer_pb2.PrepareRequest, await next_message(messages))
        run = run_of(request.run)
        async with self._initiator(run.job, request.epoch, context) as caller:
            self._check(request, caller)
            job = await self._admission.prepared(self._job(run, request))
            code = job.description.code
            if code is None:
                raise catalogue.error("BAD_REQUEST", f"job {run.job} has no code of its own")
            if not await self._codes.has(job.description):
                await self._codes.put(code.sha256, await self._received(messages, code.size_bytes))
        return peer_pb2.BringReply()

    async def _received(self, messages: AsyncIterator[bytes], size_bytes: int) -> bytes:
        try:
            async with asyncio.timeout(_BRING_S):
                return await read_bytes(messages, size_bytes)
        except TimeoutError:
            raise catalogue.error("DEADLINE", f"the job's code did not arrive within {_BRING_S:.0f} s") from None

    async def queue(self, request: peer_pb2.PrepareRequest, context: Context) -> AsyncIterator[peer_pb2.QueueReport]:
        """Keep an attempt's place in this party's line, and say whether it is its turn, now and at each change."""
        run = run_of(request.run)
        async with self._initiator(run.job, request.epoch, context) as caller:
            self._check(request, caller)
            job = await self._admission.prepared(self._job(run, request))
            async with aclosing(self._site.queue(job, run)) as words:
                async for waits_for in words:
                    yield peer_pb2.QueueReport(is_turn=not waits_for, waits_for=waits_for)

    async def start(self, request: peer_pb2.StartRequest, context: Context) -> peer_pb2.StartReply:
        """Start this party's roles of a prepared attempt."""
        run = run_of(request.run)
        async with self._initiator(run.job, request.epoch, context):
            with log_context(job=run.job, task=run.task):
                await self._site.start(run)
        return peer_pb2.StartReply()

    async def supervise(
        self, request: peer_pb2.SuperviseRequest, context: Context
    ) -> AsyncIterator[peer_pb2.TaskReport]:
        """Report this party's roles of an attempt: now, at each change, until each has ended."""
        run = run_of(request.run)
        async with self._initiator(run.job, request.epoch, context):
            async for report in self._reports(run):
                yield report

    async def stop(self, request: peer_pb2.StopRequest, context: Context) -> peer_pb2.StopReply:
        """End an attempt, or the job, at this party."""
        job = job_of(request.run)
        async with self._initiator(job, request.epoch, context):
            with log_context(job=job):
                if request.is_final:
                    await self._site.settle(job, end_of(request))
                else:
                    await self._site.stop(run_of(request.run), request.reason or "stopped by the initiator")
        return peer_pb2.StopReply()

    async def show(self, request: peer_pb2.ShowRequest, context: Context) -> AsyncIterator[peer_pb2.ShowReply]:
        """Stream what this party's own roles log or record, where its policy shows that."""
        job, offsets = job_of(peer_pb2.RunId(job=request.job)), offsets_of(request)
        async with self._initiator(job, request.epoch, context):
            shown = self._showing.read(job, request.kind, request.role, offsets, follow=request.follow)
            async with aclosing(shown):
                async for lines in shown:
                    position = peer_pb2.LogPosition(log=lines.log, offset_bytes=lines.offset)
                    yield peer_pb2.ShowReply(position=position, lines=lines.content)

    async def ping(self, _request: peer_pb2.PingRequest, context: Context) -> peer_pb2.PingReply:
        """Say who this is."""
        async with self._guard.guarding(caller_of(context, self._secret, self._federation)):
            return peer_pb2.PingReply(party=self._site.party, version=__version__, protocol=PROTOCOL)

    @asynccontextmanager
    async def _initiator(self, job: JobId, epoch: int, context: Context) -> AsyncIterator[PartyId]:
        """Run a block for a caller that may direct a job, until its certificate is revoked or it leads no more."""
        self._term.check()
        caller = caller_of(context, self._secret, self._federation)
        if caller.party != initiator_of(job):
            raise catalogue.error(
                "NOT_INITIATOR", f"party {caller.party} may not direct job {job}: party {initiator_of(job)} opened it"
            )
        async with self._guard.guarding(caller):
            try:
                async with self._epochs.guarding(caller.party, epoch):
                    yield caller.party
            except DatabaseError as exc:
                raise catalogue.error(
                    "FLOW_DOWN", f"the flow of party {self._site.party}: {exc.message}", hint=exc.hint
                ) from exc

    def _check(self, request: peer_pb2.PrepareRequest, caller: PartyId) -> None:
        """Make sure that the caller's words and times mean the same here."""
        check_protocol(request.protocol, f"party {caller}")
        check_clock(request.sent_at, f"party {caller}", self._site.party)

    def _job(self, run: TaskRun, request: peer_pb2.PrepareRequest) -> Job:
        """Return the job as it is recorded here if it is new."""
        try:
            described = description.parse(request.description)
        except JobError as exc:
            raise catalogue.error("BAD_REQUEST", exc.message, hint=exc.hint) from exc
        if run.task not in described.tasks:
            raise catalogue.error("BAD_REQUEST", f"job {run.job} has no task {run.task}")
        if not described.members_at(self._site.party):
            raise catalogue.error("WRONG_PARTY", f"party {self._site.party} has no role in job {run.job}")
        if not 0 < request.remaining_s <= description.MAX_TIMEOUT_S:
            raise catalogue.error("BAD_REQUEST", f"{request.remaining_s} s are no time for a job")
        now = time.time()
        return Job(
            id=run.job,
            initiator=initiator_of(run.job),
            name=described.name,
            text=request.description,
            state=State.WAITING,
            created_at=now,
            deadline_at=now + request.remaining_s,
            voucher=request.voucher,
            code=described.code.sha256 if described.code else "",
        )

    async def _reports(self, run: TaskRun) -> AsyncIterator[peer_pb2.TaskReport]:
        said: dict[str, State] = {}
        with self._store.changes.watch(run.job) as changed:
            while True:
                changed.clear()
                # A database that is away says nothing about the roles: whoever waits for them waits on.
                known = await until_read(partial(self._store.role_runs, run.job, party=self._site.party))
                roles = [role for role in known if role.run == run]
                if not roles:
                    raise catalogue.error("NOT_REGISTERED", f"{run} is not prepared at party {self._site.party}")
                for role in roles:
                    if said.get(role.member.role) is not role.state:
                        said[role.member.role] = role.state
                        yield report_of(role)
                if all(role.is_final for role in roles):
                    return
                if self._store.changes.is_closed:
                    raise catalogue.error("SHUTTING_DOWN", f"the flow of party {self._site.party} is being restarted")
                await changed.wait()
