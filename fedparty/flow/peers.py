"""The other parties' flows, and this party's own by the same way: through the proxies.

Owns the coordination calls as the initiator makes them, their repetition, and errors that name the party and the hop.
Does not own what is called when.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from fedparty.errors import RpcError
from fedparty.federation.names import run_message_of
from fedparty.flow.leadership.term import ALONE, Term
from fedparty.flow.logs import Lines
from fedparty.flow.messages import PROTOCOL, check_protocol, outcome_of
from fedparty.flow.records import Job, Outcome
from fedparty.rpc import calls, catalogue
from fedparty.rpc.calls import Channel
from fedparty.rpc.channels import remaining_s, retrying, to_party
from fedparty.rpc.stream import raw_messages
from fedparty.rpc.v1 import peer_pb2
from fedparty.types import JobId, Member, PartyId, TaskRun

_SERVICE = "/fedparty.v1.peer.Coordination"
_DOWN = "PROXY_DOWN"
_PING_TIMEOUT_S = 5.0
_BACKOFF_S, _MAX_BACKOFF_S = 0.05, 2.0
_BRING_S = 300.0
_MAX_WORDS = 500
_OLDER_RELEASE = frozenset({"NOT_SUPPORTED", "NOT_ALLOWED"})
"""What flow and proxy of the release before this one answer to calls that they do not know."""

Item = TypeVar("Item")
Reply = TypeVar("Reply", bound=Message)


class CodeSource(Protocol):
    """Where the jobs' own code is; see `fedparty.flow.codes`."""

    async def get(self, sha256: str) -> bytes:
        """Return an archive."""


@dataclass(frozen=True)
class Ping:
    """Who answered, and how long it took."""

    party: PartyId
    version: str
    protocol: str
    elapsed_s: float


class Peers:
    """A client of every party's coordination.

    Parameters
    ----------
    egress
        Channel to this party's proxy; it is kept open.
    patience_s
        How long a party that cannot be reached is tried.
    term
        In which they may be asked.
    codes
        The jobs' own code that is here; None: no jobs are prepared.
    """

    def __init__(self, egress: Channel, patience_s: float, term: Term = ALONE, codes: CodeSource | None = None) -> None:
        self._egress = egress
        self._term = term
        self._codes = codes
        self._patience_s = patience_s
        self._unanswered: dict[JobId, dict[PartyId, RpcError]] = {}

    def unanswered(self, job: JobId) -> RpcError | None:
        """Return the last error of a call of this job that is being repeated, or None while all are answered."""
        return next(iter(self._unanswered.get(job, {}).values()), None)

    def forget(self, job: JobId) -> None:
        """Drop what is known of a job that has ended."""
        self._unanswered.pop(job, None)

    async def prepare(self, to: PartyId, job: Job, run: TaskRun) -> None:
        """Ask a party for its part in an attempt.

        Raises
        ------
        RpcError
            CORES_TAKEN: not now, at once. Else: refused, or not reached in time.
        """
        request = partial(self._prepare, job, run)
        reply = await self._repeat(to, run.job, "Prepare", request, peer_pb2.PrepareReply)
        check_protocol(reply.protocol, f"party {to}")
        if reply.needs_code and self._codes is not None and job.description.code is not None:
            await self._bring(to, job, run, await self._codes.get(job.description.code.sha256))
            reply = await self._repeat(to, run.job, "Prepare", request, peer_pb2.PrepareReply)
        if reply.needs_code:
            raise catalogue.error("INTERNAL", f"prepare at party {to}: it does not keep the job's code")

    async def queue(self, to: PartyId, job: Job, run: TaskRun) -> AsyncGenerator[str]:
        """Stand in a party's line while this is read; yield what it waits for, empty when it is its turn.

        The line of a party that keeps none (the release before this one) is no longer than a backoff.

        Raises
        ------
        RpcError
            Refused, or not reached for longer than the patience.
        """
        try:
            async with aclosing(self._reopening(to, run.job, lambda: self._words(to, job, run))) as words:
                async for word in words:
                    yield word
        except RpcError as exc:
            if exc.code not in _OLDER_RELEASE:
                raise
            self._answered(to, run.job)
            await asyncio.sleep(random.uniform(0.5, 1) * _MAX_BACKOFF_S)  # noqa: S311 - spreads jobs, guards nothing
            yield ""
            await asyncio.Event().wait()

    async def start(self, to: PartyId, run: TaskRun) -> None:
        """Let a party start its part of a prepared attempt.

        Raises
        ------
        RpcError
            Refused, or not reached in time.
        """
        request = peer_pb2.StartRequest(run=run_message_of(run), epoch=self._term.epoch)
        await self._repeat(to, run.job, "Start", lambda: request, peer_pb2.StartReply)

    async def stop(self, to: PartyId, run: TaskRun) -> None:
        """Let a party end an attempt.

        Raises
        ------
        RpcError
            Refused, or not reached.
        """
        request = peer_pb2.StopRequest(run=run_message_of(run), epoch=self._term.epoch)
        await self._once(to, run.job, "Stop", request, peer_pb2.StopReply)

    async def end(self, to: PartyId, job: JobId, outcome: Outcome) -> None:
        """Tell a party how a job ended.

        Raises
        ------
        RpcError
            Refused, or not reached.
        """
        request = peer_pb2.StopRequest(
            run=peer_pb2.RunId(job=job),
            is_final=True,
            state=outcome.state,
            reason=outcome.error,
            epoch=self._term.epoch,
        )
        await self._once(to, job, "Stop", request, peer_pb2.StopReply)

    async def supervise(self, to: PartyId, run: TaskRun) -> AsyncGenerator[tuple[Member, Outcome]]:
        """Yield what becomes of a party's roles in a started attempt, until each has ended.

        A broken stream is opened again; the current states then come once more.

        Raises
        ------
        RpcError
            Refused, or not reached for longer than the patience.
        """
        async with aclosing(self._reopening(to, run.job, lambda: self._reports(to, run))) as reports:
            async for report in reports:
                yield report

    async def show(
        self, to: PartyId, job: JobId, kind: str, role: str, offsets: Mapping[str, int], *, follow: bool
    ) -> AsyncGenerator[Lines]:
        """Yield nothing once a party shows what its roles of a job log or record, then that; see `Showing.read`.

        Raises
        ------
        RpcError
            Refused, or not reached for longer than the patience.
        """
        self._term.check()
        read = dict(offsets)

        def request() -> peer_pb2.ShowRequest:
            positions = [peer_pb2.LogPosition(log=log, offset_bytes=offset) for log, offset in read.items()]
            return peer_pb2.ShowRequest(
                job=job, kind=kind, role=role, follow=follow, positions=positions, epoch=self._term.epoch
            )

        async with aclosing(self._reopening(to, None, lambda: self._shown(to, job, request()))) as shown:
            async for lines in shown:
                if lines.log:
                    read[lines.log] = lines.offset
                yield lines

    async def ping(self, to: PartyId, *, padding: bytes = b"") -> Ping:
        """Ask a party's flow who it is.

        Parameters
        ----------
        padding
            Bytes that cross with the question and are not read, at most 1 MiB.

        Raises
        ------
        RpcError
            Not reached; code and message say at which hop.
        """
        began = time.monotonic()
        request = peer_pb2.PingRequest(padding=padding)
        reply = await self._once(to, None, "Ping", request, peer_pb2.PingReply, _PING_TIMEOUT_S)
        return Ping(PartyId(reply.party), reply.version, reply.protocol, time.monotonic() - began)

    async def _bring(self, to: PartyId, job: Job, run: TaskRun, content: bytes) -> None:
        """Send a party the job's own code, again where the connection breaks."""
        deadline = time.monotonic() + max(self._patience_s, _BRING_S)

        async def attempt() -> None:
            self._term.check()
            try:
                await calls.send_stream(
                    self._egress,
                    f"{_SERVICE}/Bring",
                    raw_messages(self._prepare(job, run), content),
                    metadata=to_party(to, run.job),
                    timeout_s=max(0.1, remaining_s(deadline)),
                    unavailable=_DOWN,
                )
            except RpcError as exc:
                error = _named(exc, to, "Bring")
                self._met(to, run.job, error)
                raise error from exc

        await retrying(attempt, deadline=deadline)
        self._answered(to, run.job)

    async def _reopening(
        self, to: PartyId, job: JobId | None, open_stream: Callable[[], AsyncGenerator[Item]]
    ) -> AsyncGenerator[Item]:
        """Yield what a stream says, and open it again where it breaks; of a job, that it is broken is known."""
        broken_at, backoff_s = 0.0, _BACKOFF_S
        while True:
            try:
                async with aclosing(open_stream()) as items:
                    async for item in items:
                        broken_at, backoff_s = 0.0, _BACKOFF_S
                        self._answered(to, job)
                        yield item
                return
            except RpcError as exc:
                self._met(to, job, exc)
                broken_at = broken_at or time.monotonic()
                if not catalogue.is_retryable(exc) or time.monotonic() - broken_at >= self._patience_s:
                    raise
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    async def _repeat(
        self, to: PartyId, job: JobId, method: str, request: Callable[[], Message], reply: type[Reply]
    ) -> Reply:
        """Call until it is answered; cores that are taken are an answer. Each call has a request of its own time."""
        deadline = time.monotonic() + self._patience_s
        known: RpcError | None = None

        async def attempt() -> Reply | RpcError:
            nonlocal known
            try:
                return await self._once(to, job, method, request(), reply, max(0.1, remaining_s(deadline)))
            except RpcError as exc:
                if exc.code == "CORES_TAKEN":
                    return exc
                known = known if known and exc.code == "DEADLINE" else exc  # silence says less than a reason
                self._met(to, job, known)
                raise known from None

        answer = await retrying(attempt, deadline=deadline)
        self._answered(to, job)
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def _prepare(self, job: Job, run: TaskRun) -> peer_pb2.PrepareRequest:
        return peer_pb2.PrepareRequest(
            run=run_message_of(run),
            description=job.text,
            protocol=PROTOCOL,
            remaining_s=max(0.001, job.deadline_at - time.time()),
            voucher=job.voucher,
            epoch=self._term.epoch,
            sent_at=time.time(),
        )

    def _met(self, to: PartyId, job: JobId | None, error: RpcError) -> None:
        if job is not None:
            self._unanswered.setdefault(job, {})[to] = error

    def _answered(self, to: PartyId, job: JobId | None) -> None:
        if job is not None:
            self._unanswered.get(job, {}).pop(to, None)

    async def _once(
        self,
        to: PartyId,
        job: JobId | None,
        method: str,
        request: Message,
        reply: type[Reply],
        timeout_s: float | None = None,
    ) -> Reply:
        self._term.check()
        try:
            return await calls.call(
                self._egress,
                f"{_SERVICE}/{method}",
                request,
                reply,
                metadata=to_party(to, job),
                timeout_s=timeout_s or self._patience_s,
                unavailable=_DOWN,
            )
        except RpcError as exc:
            raise _named(exc, to, method) from exc

    async def _words(self, to: PartyId, job: Job, run: TaskRun) -> AsyncGenerator[str]:
        request = self._prepare(job, run)
        async with aclosing(self._stream(to, job.id, "Queue", request, peer_pb2.QueueReport)) as answers:
            async for answer in answers:
                yield "" if answer.is_turn else f"party {to}: {answer.waits_for[:_MAX_WORDS]}"

    async def _shown(self, to: PartyId, job: JobId, request: peer_pb2.ShowRequest) -> AsyncGenerator[Lines]:
        try:
            async with aclosing(
                self._stream(to, job, "Show", request, peer_pb2.ShowReply, called=request.kind)
            ) as answers:
                async for answer in answers:
                    yield Lines(answer.position.log, answer.position.offset_bytes, answer.lines)
        except RpcError as exc:
            if exc.code not in _OLDER_RELEASE:
                raise
            message = f"party {to} runs a release that shows no {request.kind} to others"
            raise catalogue.error("NOT_SUPPORTED", message) from exc

    async def _reports(self, to: PartyId, run: TaskRun) -> AsyncGenerator[tuple[Member, Outcome]]:
        request = peer_pb2.SuperviseRequest(run=run_message_of(run), epoch=self._term.epoch)
        async with aclosing(self._stream(to, run.job, "Supervise", request, peer_pb2.TaskReport)) as reports:
            async for report in reports:
                if report.party == to:
                    yield Member(report.role, to), outcome_of(report)

    async def _stream(
        self, to: PartyId, job: JobId, method: str, request: Message, reply: type[Reply], called: str = ""
    ) -> AsyncGenerator[Reply]:
        """Yield a party's answers; errors name the step: the method, or what it is `called`."""
        self._term.check()
        answers = calls.read_stream(
            self._egress,
            f"{_SERVICE}/{method}",
            request,
            reply.FromString,
            metadata=to_party(to, job),
            unavailable=_DOWN,
        )
        try:
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
        except RpcError as exc:
            raise _named(exc, to, called or method) from exc


def _named(exc: RpcError, to: PartyId, method: str) -> RpcError:
    """Return the error with the party and the step that it is about."""
    if exc.code == _DOWN:
        return catalogue.error(_DOWN, f"this party's own proxy does not answer; it leads to party {to}")
    if exc.code == "DEADLINE":
        hint = f"Ask party {to} to look at its flow service: deploy.py status."
        return catalogue.error("DEADLINE", f"{method.lower()} at party {to}: no answer in time", hint=hint)
    return RpcError(f"{method.lower()} at party {to}: {exc.message}", hint=exc.hint, code=exc.code)
