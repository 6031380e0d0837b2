"""The worker service: this party's flow starts, stops, watches and reads tasks through it.

Owns `fedparty.v1.local.Worker` and its readiness. Does not own the tasks' states (`launcher`) nor processes
(`forkserver`). Only service tokens of this party's own flow, for the scope ``worker``, are obeyed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from google.protobuf.message import Message
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fedparty.crypto.tokens import TokenVerifier
from fedparty.errors import ConfigurationError, FedpartyError, JobError
from fedparty.federation.names import member_from, run_from
from fedparty.jobs import code, machine
from fedparty.rpc import catalogue, operations
from fedparty.rpc.channels import bearer_of
from fedparty.rpc.epochs import HighestEpoch
from fedparty.rpc.logging import bind
from fedparty.rpc.server import Context, parse, raw_client_stream, server_stream, start_server, unary
from fedparty.rpc.server import service as service_handlers
from fedparty.rpc.sockets import UNIX_PREFIX, unix_path
from fedparty.rpc.stream import next_message, read_bytes
from fedparty.rpc.v1 import local_pb2, peer_pb2
from fedparty.settings import WorkerSettings
from fedparty.storage import reading
from fedparty.types import JobId, TaskRun, parse_job_id, party_of_uri
from fedparty.worker import code as job_code
from fedparty.worker import isolation, linux, outputs
from fedparty.worker.forkserver import ForkServer
from fedparty.worker.launcher import Launcher, UnknownTaskError
from fedparty.worker.linux import FileChanges
from fedparty.worker.spec import LOG, METRICS, TaskSpec, folder_of

logger = logging.getLogger(__name__)

SERVICE = "fedparty.v1.local.Worker"
SCOPE = "worker"

_EPOCH = "leader-epoch"
"""The file with the highest epoch seen, beside the jobs."""
_OUTPUT_CHUNK_BYTES = 1 << 18
_MAX_OFFSET = 1 << 62
"""No file is longer; `seek` takes less than the wire."""
_SHA256 = re.compile("[0-9a-f]{64}")


class WorkerService:
    """The handlers of `SERVICE`.

    Parameters
    ----------
    settings
        Of the worker; its paths are relative to the working directory.
    launcher
        The tasks.
    verifier
        Checks the callers' tokens.
    epoch
        Refuses a flow that leads no more.
    changes
        Tells when logs grow.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        launcher: Launcher,
        verifier: TokenVerifier,
        epoch: HighestEpoch,
        changes: FileChanges,
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._verifier = verifier
        self._epoch = epoch
        self._changes = changes
        self._signer = party_of_uri(settings.federation, settings.signer)
        self._jobs = settings.jobs.absolute()

    async def start(self, request: local_pb2.LaunchRequest, context: Context) -> Message:
        """Start one role of a task attempt."""
        self._authorize(context)
        spec = self._spec(request)
        if spec.code and not job_code.is_unpacked(spec.code) and not self._launcher.is_known(spec):
            return local_pb2.LaunchReply(needs_code=True)
        self._launcher.start(spec, request.remaining_s)
        return local_pb2.LaunchReply()

    async def bring(self, messages: AsyncIterator[bytes], context: Context) -> Message:
        """Take in a job's own code."""
        self._authorize(context)
        header = parse(local_pb2.CodeHeader, await next_message(messages))
        try:
            job, sha256 = parse_job_id(header.job), _digest(header.sha256)
            if header.size_bytes > code.MAX_BYTES:
                raise ValueError(f"{header.size_bytes} bytes of code are more than {code.MAX_BYTES}")
            content = await read_bytes(messages, header.size_bytes)
            await asyncio.to_thread(job_code.unpack, self._jobs, job, sha256, content)
        except ValueError as exc:
            raise catalogue.error("BAD_REQUEST", str(exc)) from exc
        except JobError as exc:
            raise catalogue.error("BAD_REQUEST", exc.message, hint=exc.hint) from exc
        return local_pb2.BringReply()

    async def describe(self, _request: local_pb2.DescribeRequest, context: Context) -> Message:
        """Tell what the machine gives to tasks."""
        self._authorize(context)
        found = machine.detect()
        return local_pb2.DescribeReply(
            cores=found.cores, memory_bytes=found.memory_bytes, gpus=len(found.gpus), unheld=isolation.unheld()
        )

    async def stop(self, request: local_pb2.HaltRequest, context: Context) -> Message:
        """Kill a task attempt; the answer comes when it has ended."""
        self._authorize(context)
        await self._launcher.stop(run_from(request.run))
        return local_pb2.HaltReply()

    async def watch(self, request: local_pb2.WatchRequest, context: Context) -> AsyncIterator[Message | bytes]:
        """Stream the states of a task attempt."""
        self._authorize(context)
        try:
            async for member, outcome in self._launcher.watch(run_from(request.run)):
                yield peer_pb2.TaskReport(
                    role=member.role,
                    party=member.party,
                    state=outcome.state,
                    error=outcome.error,
                    hint=outcome.hint,
                    result=outcome.result,
                )
        except UnknownTaskError as exc:
            raise catalogue.error("NOT_KNOWN", exc.message, hint=exc.hint) from exc

    async def read_log(self, request: local_pb2.ReadLogRequest, context: Context) -> AsyncIterator[Message | bytes]:
        """Stream a role's log as raw bytes."""
        self._authorize(context)
        async for data in self._read(request, LOG):
            yield data

    async def read_metrics(self, request: local_pb2.ReadLogRequest, context: Context) -> AsyncIterator[Message | bytes]:
        """Stream a role's figures as raw bytes."""
        self._authorize(context)
        async for data in self._read(request, METRICS):
            yield data

    async def list_outputs(self, request: local_pb2.ListOutputsRequest, context: Context) -> Message:
        """List the files that a role has kept."""
        self._authorize(context)
        folder = self._ended(request)
        found = await asyncio.to_thread(outputs.listed, folder)
        files = [local_pb2.OutputFile(name=name, size_bytes=size) for name, size in found.items()]
        return local_pb2.ListOutputsReply(files=files)

    async def read_output(
        self, request: local_pb2.ReadOutputRequest, context: Context
    ) -> AsyncIterator[Message | bytes]:
        """Stream one of these files as raw bytes."""
        self._authorize(context)
        offset = _offset_of(request)
        try:
            file = await asyncio.to_thread(outputs.open_file, self._ended(request), request.name)
        except JobError as exc:
            raise catalogue.error("NOT_KNOWN", exc.message, hint=exc.hint) from exc
        with file:
            file.seek(offset)
            while chunk := await asyncio.to_thread(file.read, _OUTPUT_CHUNK_BYTES):
                yield chunk

    async def describe_table(self, request: local_pb2.DescribeTableRequest, context: Context) -> Message:
        """Tell what is in a file."""
        self._authorize(context)
        described = (self._settings.tables.absolute(), request.name, request.path, request.id_column or None)
        try:
            source = await asyncio.to_thread(reading.describe, *described)
        except ConfigurationError as exc:
            raise catalogue.error("BAD_REQUEST", exc.message, hint=exc.hint) from exc
        return local_pb2.DescribeTableReply(table=json.dumps(source.to_json()))

    async def take_over(self, request: local_pb2.TakeOverRequest, context: Context) -> Message:
        """Give a role of a new job what it left in an earlier one."""
        self._authorize(context)
        member = member_from(request.member)
        old, new = (folder_of(self._jobs, run_from(run), member) for run in (request.old, request.new))
        try:
            await asyncio.to_thread(outputs.take_over, old, new)
        except JobError as exc:
            raise catalogue.error("NOT_KNOWN", exc.message, hint=exc.hint) from exc
        return local_pb2.TakeOverReply()

    async def forget(self, request: local_pb2.ForgetRequest, context: Context) -> Message:
        """Delete the folders of a job."""
        self._authorize(context)
        job = _job_of(request)
        try:
            await self._launcher.forget(job, self._jobs)
        except JobError as exc:
            raise catalogue.error("CONFLICT", exc.message, hint=exc.hint) from exc
        return local_pb2.ForgetReply()

    async def _read(self, request: local_pb2.ReadLogRequest, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of a file that a task writes, or wrote before this launcher was started."""
        run, member, offset = run_from(request.run), member_from(request.member), _offset_of(request)
        try:
            async for data in self._launcher.read_log(
                run, member, offset, follow=request.follow, changes=self._changes, name=name
            ):
                yield data
        except UnknownTaskError as exc:
            try:
                file = (folder_of(self._jobs, run, member) / name).open("rb")
            except FileNotFoundError:
                raise catalogue.error("NOT_KNOWN", exc.message, hint=exc.hint) from exc
            with file:
                file.seek(offset)
                while chunk := await asyncio.to_thread(file.read, _OUTPUT_CHUNK_BYTES):
                    yield chunk

    def _authorize(self, context: Context) -> None:
        claims = self._verifier.service(bearer_of(context), issuer=self._signer, scope=SCOPE)
        self._epoch.admit(claims.epoch)

    def _ended(self, request: local_pb2.ListOutputsRequest | local_pb2.ReadOutputRequest) -> Path:
        """Return the folder of a role that has ended."""
        run, member = run_from(request.run), member_from(request.member)
        if self._launcher.is_running(run, member):
            hint = "Its outputs are there when it has ended."
            raise catalogue.error("CONFLICT", f"{run} {member} still runs", hint=hint)
        return folder_of(self._jobs, run, member)

    def _spec(self, request: local_pb2.LaunchRequest) -> TaskSpec:
        run, member = run_from(request.run), member_from(request.member)
        if member.party != self._settings.party:
            raise catalogue.error("BAD_REQUEST", f"{member} is not a role of party {self._settings.party}")
        if bool(request.code) != code.is_custom(request.component):
            raise catalogue.error("BAD_REQUEST", f"{request.component[:100]!r} and the job's code do not go together")
        if not 0 <= request.remaining_s < math.inf:
            raise catalogue.error("BAD_REQUEST", f"{request.remaining_s} s is no time limit")
        if not 0 <= request.cores < math.inf:
            raise catalogue.error("BAD_REQUEST", f"{request.cores} is no number of cores")
        return TaskSpec(
            run=run,
            member=member,
            members=tuple(member_from(text) for text in request.members),
            component=request.component,
            parameters=request.parameters or "{}",
            token=request.token,
            deadline=0.0,
            cores=request.cores,
            memory_bytes=request.memory_bytes,
            gpus=request.gpus,
            folder=folder_of(self._jobs, run, member),
            egress=_from_anywhere(self._settings.egress),
            mailbox=_from_anywhere(self._settings.mailbox),
            log_level=self._settings.log_level,
            log_limit_bytes=self._settings.log_limit_bytes,
            tables=request.tables or "[]",
            tables_folder=str(self._settings.tables.absolute()),
            code=self._code_folder(run, request.code),
            isolation=request.isolation or isolation.KERNEL,
            leaving=request.leaving,
        )

    def _code_folder(self, run: TaskRun, sha256: str) -> str:
        try:
            return str(job_code.folder_of(self._jobs, run.job, _digest(sha256))) if sha256 else ""
        except ValueError as exc:
            raise catalogue.error("BAD_REQUEST", str(exc)) from exc


async def serve(settings: WorkerSettings, stop: asyncio.Event, fork_server: ForkServer) -> None:
    """Be the worker service until `stop` is set; then all tasks are killed.

    Parameters
    ----------
    settings
        Its settings; the working directory is the party's home.
    stop
        Ends it.
    fork_server
        Forked before gRPC was used; ends with the service.

    Raises
    ------
    FedpartyError
        The fork server died: whoever runs the service starts it, and with it a new fork server, again.
    """
    bind(service="worker", party=settings.party)
    settings.jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    linux.adopt_orphans()
    connection = await fork_server.connect()
    launcher = Launcher(connection)
    reading = asyncio.create_task(connection.read(launcher.on_event))
    registry = operations.new_registry()
    registry.register(_TaskMetrics(launcher))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        await stack.enter_async_context(_serving(settings, launcher))
        readiness = _Readiness(settings)
        await stack.enter_async_context(operations.serve_operations(settings.operations, readiness.missing, registry))
        logger.info("the worker listens on %s", settings.address)
        await _until(stop, reading, launcher)


@asynccontextmanager
async def _serving(settings: WorkerSettings, launcher: Launcher) -> AsyncIterator[None]:
    verifier = TokenVerifier(settings.ca_certificate, settings.revocations, settings.federation)
    changes = FileChanges()
    try:
        service = WorkerService(settings, launcher, verifier, HighestEpoch(settings.jobs.with_name(_EPOCH)), changes)
        methods = {
            "Start": unary(local_pb2.LaunchRequest, service.start),
            "Describe": unary(local_pb2.DescribeRequest, service.describe),
            "Bring": raw_client_stream(service.bring),
            "Stop": unary(local_pb2.HaltRequest, service.stop),
            "Watch": server_stream(local_pb2.WatchRequest, service.watch),
            "ReadLog": server_stream(local_pb2.ReadLogRequest, service.read_log),
            "ReadMetrics": server_stream(local_pb2.ReadLogRequest, service.read_metrics),
            "ListOutputs": unary(local_pb2.ListOutputsRequest, service.list_outputs),
            "ReadOutput": server_stream(local_pb2.ReadOutputRequest, service.read_output),
            "DescribeTable": unary(local_pb2.DescribeTableRequest, service.describe_table),
            "TakeOver": unary(local_pb2.TakeOverRequest, service.take_over),
            "Forget": unary(local_pb2.ForgetRequest, service.forget),
        }
        server = await start_server(settings.address, [service_handlers(SERVICE, methods)])
        try:
            yield
        finally:
            await server.stop()
    finally:
        changes.close()


async def _until(stop: asyncio.Event, reading: asyncio.Task[None], launcher: Launcher) -> None:
    """Return when `stop` is set; raise if the fork server dies before."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((stopping, reading), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if stop.is_set():
        return
    launcher.lose_all()
    await asyncio.to_thread(linux.end_children)  # the tasks died with the fork server; what they started may live
    raise FedpartyError("the worker's fork server died", hint="The service is started again; look who killed it.")


class _Readiness:
    """Asks whether the neighbours that tasks need answer."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._neighbours = {"proxy": settings.egress, "mailbox": settings.mailbox}

    async def missing(self) -> dict[str, str]:
        """Return what is missing by neighbour."""
        answers = await asyncio.gather(*map(_connect, self._neighbours.values()))
        return {name: answer for name, answer in zip(self._neighbours, answers, strict=True) if answer}


async def _connect(address: str) -> str:
    """Return why nobody answers at an address, empty if somebody does."""
    path = unix_path(address)
    try:
        async with asyncio.timeout(1):
            if path is not None:
                _, writer = await asyncio.open_unix_connection(path)
            else:
                host, _, port = address.rpartition(":")
                _, writer = await asyncio.open_connection(host, int(port))
    except OSError as exc:
        return f"{address} does not answer: {exc.strerror or exc}"
    writer.close()
    return ""


class _TaskMetrics(Collector):
    """The tasks' figures for Prometheus, read when they are asked for."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        yield GaugeMetricFamily(
            "fedparty_worker_tasks_running", "Tasks that have not ended.", value=len(self._launcher.running)
        )
        ended = CounterMetricFamily("fedparty_worker_tasks_ended", "Tasks that ended, by state.", labels=["state"])
        for state, count in sorted(self._launcher.ended.items()):
            ended.add_metric([state], count)
        yield ended


def _from_anywhere(address: str) -> str:
    """Return an address that is valid in every working directory; a link in it (a short path) is followed."""
    path = unix_path(address)
    return address if path is None else f"{UNIX_PREFIX}{Path(os.path.realpath(path.parent), path.name)}"


def _offset_of(request: local_pb2.ReadLogRequest | local_pb2.ReadOutputRequest) -> int:
    if request.offset_bytes > _MAX_OFFSET:
        raise catalogue.error("BAD_REQUEST", f"{request.offset_bytes} is no offset in a file")
    return request.offset_bytes


def _digest(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no SHA-256")
    return text


def _job_of(request: local_pb2.ForgetRequest) -> JobId:
    try:
        return parse_job_id(request.job)
    except ValueError as exc:
        raise catalogue.error("BAD_REQUEST", str(exc)) from exc
