"""This party's own worker service, as the flow sees it.

Owns the calls to it and following its reports across its restarts. Does not own what a report means for a job.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from google.protobuf.message import Message

from fedparty.crypto.leaving import Leaving
from fedparty.crypto.tokens import ANYTHING, TokenSigner
from fedparty.errors import RpcError
from fedparty.federation.names import run_message_of
from fedparty.flow.leadership.term import ALONE, Term
from fedparty.flow.messages import outcome_of
from fedparty.flow.records import Job, Outcome
from fedparty.flow.states import FINAL, State
from fedparty.jobs.code import is_custom
from fedparty.jobs.machine import Machine
from fedparty.rpc import calls, catalogue
from fedparty.rpc.calls import Channel
from fedparty.rpc.channels import Metadata, bearer
from fedparty.rpc.stream import raw_messages
from fedparty.rpc.v1 import local_pb2, peer_pb2
from fedparty.storage.source import Source
from fedparty.types import JobId, Member, PartyId, TaskRun

_SERVICE = "/fedparty.v1.local.Worker"
_DOWN = "WORKER_DOWN"
_CALL_TIMEOUT_S = 10.0
_TABLE_TIMEOUT_S = 300.0
"""How long the reading of a whole file, or sending one, may take."""
_TOKEN_MARGIN_S = 60.0
"""How long a task's token outlives the task, for its last calls."""
_BACKOFF_S, _MAX_BACKOFF_S = 0.05, 1.0

Item = TypeVar("Item")
Reply = TypeVar("Reply", bound=Message)


class Launcher:
    """A client of the worker service.

    Parameters
    ----------
    channel
        To the service; it is kept open.
    signer
        Signs what the service and the tasks show.
    party
        Whose service it is.
    patience_s
        How long a service that does not answer is waited for before its tasks count as lost.
    term
        In which it may be asked.
    """

    def __init__(
        self, channel: Channel, signer: TokenSigner, party: PartyId, patience_s: float, term: Term = ALONE
    ) -> None:
        self._term = term
        self._channel = channel
        self._signer = signer
        self._party = party
        self._patience_s = patience_s
        self._hint = f"Look at the worker service of party {party}: deploy.py status."

    async def start(
        self,
        job: Job,
        run: TaskRun,
        member: Member,
        tables: Sequence[Source] = (),
        isolation: str = "",
        leaving: Leaving = ANYTHING,
    ) -> bool:
        """Start one role of an attempt, which may read `tables`; repeating it changes nothing.

        Returns False where the job's own code is to be brought first.

        Parameters
        ----------
        isolation
            What must hold the job's own code.
        leaving
            What the role may send to other parties.

        Raises
        ------
        RpcError
            The service refused, or does not answer.
        """
        description = job.description
        task = description.tasks[run.task]
        remaining_s = min(max(0.0, job.deadline_at - time.time()), task.timeout_s or math.inf)
        request = local_pb2.LaunchRequest(
            run=run_message_of(run),
            member=str(member),
            members=[str(m) for m in description.members],
            component=task.component,
            parameters=json.dumps(description.parameters_of(run.task, member)),
            token=self._signer.task(run, member, remaining_s + _TOKEN_MARGIN_S, leaving),
            remaining_s=remaining_s,
            cores=task.cores,
            memory_bytes=task.memory_bytes or 0,
            gpus=task.gpus,
            tables=json.dumps([table.to_json() for table in tables]),
            code=description.code.sha256 if description.code and is_custom(task.component) else "",
            isolation=isolation,
            leaving=json.dumps(leaving.to_claims()),
        )
        reply = await self._call("Start", request, local_pb2.LaunchReply)
        return not reply.needs_code

    async def bring(self, job: JobId, sha256: str, content: bytes) -> None:
        """Give the service a job's own code; repeating it changes nothing.

        Raises
        ------
        RpcError
            The service refused, or does not answer.
        """
        header = local_pb2.CodeHeader(job=job, sha256=sha256, size_bytes=len(content))
        try:
            await calls.send_stream(
                self._channel,
                f"{_SERVICE}/Bring",
                raw_messages(header, content),
                metadata=self._metadata(),
                timeout_s=_TABLE_TIMEOUT_S,
                unavailable=_DOWN,
            )
        except RpcError as exc:
            raise self._named(exc) from exc

    async def describe(self) -> Machine:
        """Return what the service's machine has.

        Raises
        ------
        RpcError
            The service does not answer.
        """
        reply = await self._call("Describe", local_pb2.DescribeRequest(), local_pb2.DescribeReply)
        return Machine(reply.cores, reply.memory_bytes, tuple(range(reply.gpus)), reply.unheld)

    async def stop(self, run: TaskRun) -> None:
        """Kill what runs of an attempt; repeating it changes nothing.

        Raises
        ------
        RpcError
            The service does not answer.
        """
        await self._call("Stop", local_pb2.HaltRequest(run=run_message_of(run)), local_pb2.HaltReply)

    async def take_over(self, old: TaskRun, new: TaskRun, member: Member) -> None:
        """Give a role of a new job the folder that it left in an earlier one; repeating it changes nothing.

        Raises
        ------
        RpcError
            NOT_KNOWN: it is gone. Else: the service does not answer.
        """
        runs = {"old": run_message_of(old), "new": run_message_of(new)}
        request = local_pb2.TakeOverRequest(**runs, member=str(member))
        await self._call("TakeOver", request, local_pb2.TakeOverReply, timeout_s=_TABLE_TIMEOUT_S)

    async def forget(self, job: JobId) -> None:
        """Delete what an ended job left there; repeating it changes nothing.

        Raises
        ------
        RpcError
            CONFLICT: a task of it still runs. Else: the service does not answer.
        """
        await self._call("Forget", local_pb2.ForgetRequest(job=job), local_pb2.ForgetReply)

    async def follow(self, run: TaskRun, members: tuple[Member, ...]) -> AsyncGenerator[tuple[Member, Outcome]]:
        """Yield what becomes of the roles of a started attempt, until each has ended.

        The service may go away and come back: what it then does not know any more is lost.
        """
        pending = set(members)
        broken_at, backoff_s = 0.0, _BACKOFF_S
        while pending:
            try:
                async with aclosing(self._watch(run)) as reports:
                    async for member, outcome in reports:
                        broken_at, backoff_s = 0.0, _BACKOFF_S
                        if outcome.state in FINAL:
                            pending.discard(member)
                        yield member, outcome
                verdict = self._lost(run, "ended its reports without a verdict")
            except RpcError as exc:
                broken_at = broken_at or time.monotonic()
                if catalogue.is_retryable(exc) and time.monotonic() - broken_at < self._patience_s:
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)
                    continue
                verdict = self._lost(run, _reason(exc))
            for member in sorted(pending):
                yield member, verdict
            return

    def read_log(self, run: TaskRun, member: Member, offset: int = 0, *, follow: bool) -> AsyncGenerator[bytes]:
        """Yield the log of one role from a byte on, JSON lines, in any split; with `follow` until the role has ended.

        Raises
        ------
        RpcError
            NOT_KNOWN: there is no such log. Else: the service does not answer.
        """
        return self._lines("ReadLog", run, member, offset, follow=follow)

    def read_metrics(self, run: TaskRun, member: Member, offset: int = 0, *, follow: bool) -> AsyncGenerator[bytes]:
        """Yield the figures of one role; see `read_log`."""
        return self._lines("ReadMetrics", run, member, offset, follow=follow)

    async def list_outputs(self, run: TaskRun, member: Member) -> dict[str, int]:
        """Return name and size of each file that a role has kept.

        Raises
        ------
        RpcError
            CONFLICT: it still runs. Else: the service does not answer.
        """
        request = local_pb2.ListOutputsRequest(run=run_message_of(run), member=str(member))
        reply = await self._call("ListOutputs", request, local_pb2.ListOutputsReply)
        return {file.name: file.size_bytes for file in reply.files}

    async def read_output(self, run: TaskRun, member: Member, name: str, offset: int = 0) -> AsyncGenerator[bytes]:
        """Yield the bytes of one of these files.

        Raises
        ------
        RpcError
            NOT_KNOWN: there is no such file. CONFLICT: the role still runs. Else: the service does not answer.
        """
        request = local_pb2.ReadOutputRequest(
            run=run_message_of(run), member=str(member), name=name, offset_bytes=offset
        )
        async with aclosing(self._stream("ReadOutput", request, bytes)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def describe_table(self, name: str, path: str, id_column: str | None) -> Source:
        """Return what is in a file below the site's folder for tables.

        Raises
        ------
        RpcError
            BAD_REQUEST: it may not be read, or is no table. Else: the service does not answer.
        """
        request = local_pb2.DescribeTableRequest(name=name, path=path, id_column=id_column or "")
        reply = await self._call("DescribeTable", request, local_pb2.DescribeTableReply, timeout_s=_TABLE_TIMEOUT_S)
        return Source.from_json(json.loads(reply.table))

    async def _watch(self, run: TaskRun) -> AsyncGenerator[tuple[Member, Outcome]]:
        request = local_pb2.WatchRequest(run=run_message_of(run))
        async with aclosing(self._stream("Watch", request, peer_pb2.TaskReport.FromString)) as reports:
            async for report in reports:
                yield Member(report.role, PartyId(report.party)), outcome_of(report)

    def _lines(self, method: str, run: TaskRun, member: Member, offset: int, *, follow: bool) -> AsyncGenerator[bytes]:
        request = local_pb2.ReadLogRequest(
            run=run_message_of(run), member=str(member), offset_bytes=offset, follow=follow
        )
        return self._stream(method, request, bytes)

    async def _call(
        self, method: str, request: Message, reply: type[Reply], timeout_s: float = _CALL_TIMEOUT_S
    ) -> Reply:
        try:
            return await calls.call(
                self._channel,
                f"{_SERVICE}/{method}",
                request,
                reply,
                metadata=self._metadata(),
                timeout_s=timeout_s,
                unavailable=_DOWN,
            )
        except RpcError as exc:
            raise self._named(exc) from exc

    async def _stream(self, method: str, request: Message, read: Callable[[bytes], Item]) -> AsyncGenerator[Item]:
        answers = calls.read_stream(
            self._channel,
            f"{_SERVICE}/{method}",
            request,
            read,
            metadata=self._metadata(),
            unavailable=_DOWN,
        )
        try:
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
        except RpcError as exc:
            raise self._named(exc) from exc

    def _metadata(self) -> Metadata:
        self._term.check()
        return bearer(self._signer.service("worker"))

    def _named(self, exc: RpcError) -> RpcError:
        if exc.code == "CONNECTION_LOST":
            return catalogue.error(exc.code, f"the worker service of party {self._party} broke off", hint=self._hint)
        return self._down() if exc.code == _DOWN else exc

    def _down(self) -> RpcError:
        return catalogue.error(
            _DOWN,
            f"the worker service of party {self._party} does not answer",
            hint=self._hint,
        )

    def _lost(self, run: TaskRun, reason: str) -> Outcome:
        return Outcome(
            State.LOST,
            f"the worker service of party {self._party} {reason}: task {run.task} is lost",
            self._hint,
        )


def _reason(exc: RpcError) -> str:
    if exc.code in ("NOT_KNOWN", "NOT_REGISTERED"):
        return "was restarted"
    return "does not answer" if exc.code == _DOWN else f"failed ({exc.code}: {exc.message})"
