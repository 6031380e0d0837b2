"""Parties with their real flow and mailbox, wired without TLS, and a worker that does as it is told.

Owns homes, keys, the relay in the place of the proxies, and the scripted worker. The real proxies and the real worker
have tests of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
from cryptography import x509
from flow_faults import Faults
from wrong_clock import wrong_clock

from fedparty.client import JobStatus, Session
from fedparty.crypto.keys import generate_key, key_to_pem
from fedparty.crypto.tokens import TokenSigner
from fedparty.database.migrate import upgrade
from fedparty.federation.names import run_from
from fedparty.federation.service import serve as serve_mailbox
from fedparty.flow.service import serve as serve_flow
from fedparty.jobs.code import Package
from fedparty.pki.authority import Authority
from fedparty.rpc import catalogue
from fedparty.rpc.channels import bearer_of, open_channel
from fedparty.rpc.server import (
    Context,
    Server,
    parse,
    raw_client_stream,
    server_stream,
    service,
    start_server,
    unary,
)
from fedparty.rpc.stream import next_message, read_bytes
from fedparty.rpc.v1 import local_pb2, peer_pb2
from fedparty.settings import FederationSettings, FlowSettings
from fedparty.types import Member, PartyId, Secret, TaskRun, party_uri

FEDERATION = "lab"
TOKEN = "open-sesame"
OPEN = ("waiting", "running")
EVERYTHING = """\
version: 1
rules: [{name: everything, parties: all, components: all, tables: all, reveals: individual, custom: true}]
"""
"""A policy that refuses nothing."""

_CHUNK_BYTES = 1 << 18
Databases = Callable[[Path], dict[str, Any]]
_PEOPLE = ThreadPoolExecutor(64, thread_name_prefix="people")
"""Makes a database for the party at a home, and returns the settings that lead to it."""


def sqlite_in(home: Path) -> dict[str, Any]:
    """Return the settings of a SQLite file in a home."""
    return {"database_url": f"sqlite+aiosqlite:///{home}/data/flow.db"}


def description(component: str = "succeed", *, guest: str = "10000", host: str = "9999", **more: Any) -> dict[str, Any]:
    """Return a job of one task; `more` goes to the task, except `timeout_s`."""
    job = {"timeout_s": more.pop("timeout_s")} if "timeout_s" in more else {}
    return job | {
        "name": "toy",
        "roles": {"guest": [guest], "host": [host]},
        "tasks": {"sum": {"component": component, "cores": 1, **more}},
    }


class ScriptedWorker:
    """The worker service, for components ``succeed``, ``fail`` and ``hang``; what hangs ends when the test says so."""

    def __init__(self) -> None:
        self.states: dict[tuple[TaskRun, Member], peer_pb2.TaskReport] = {}
        self.starts: list[tuple[TaskRun, Member]] = []
        self.parameters: dict[tuple[TaskRun, Member], Any] = {}
        self.remaining_s: dict[tuple[TaskRun, Member], float] = {}
        self.logs: dict[str, bytes] = {}
        self.forgotten: list[str] = []
        self.taken_over: list[tuple[str, str]] = []
        """Task and role of each folder that went to a later job."""
        self.metrics: dict[str, bytes] = {}
        self.outputs: dict[str, bytes] = {}
        self.tables: dict[tuple[TaskRun, Member], Any] = {}
        """What each role may read."""
        self.files: dict[str, Any] = {}
        """What is in the files that can be bound, by path."""
        self.read_bytes = 0
        """How much of logs was given away."""
        self.codes: dict[str, bytes] = {}
        """The jobs' own code that was brought, by its digest."""
        self.isolation: dict[tuple[TaskRun, Member], str] = {}
        self.unheld = ""
        self.changed = asyncio.Condition()
        self.followers = 0
        """How many logs are being followed."""
        self.doubles: list[str] = []
        """What must not be: a second process of a role's attempt, or of another attempt while one lives."""
        self._server: Server | None = None

    async def restart(self) -> None:
        """Die with all tasks, and come back."""
        address = self._address
        await self.close()
        async with self.changed:
            self.states.clear()
            self.changed.notify_all()
        await self.listen(address)

    async def listen(self, address: str) -> None:
        handlers = {
            "Describe": unary(local_pb2.DescribeRequest, self._describe),
            "Start": unary(local_pb2.LaunchRequest, self._start),
            "Bring": raw_client_stream(self._bring),
            "Stop": unary(local_pb2.HaltRequest, self._stop),
            "Watch": server_stream(local_pb2.WatchRequest, self._watch),
            "ReadLog": server_stream(local_pb2.ReadLogRequest, self._read_log),
            "ReadMetrics": server_stream(local_pb2.ReadLogRequest, self._read_metrics),
            "ListOutputs": unary(local_pb2.ListOutputsRequest, self._list_outputs),
            "ReadOutput": server_stream(local_pb2.ReadOutputRequest, self._read_output),
            "DescribeTable": unary(local_pb2.DescribeTableRequest, self._describe_table),
            "TakeOver": unary(local_pb2.TakeOverRequest, self._take_over),
            "Forget": unary(local_pb2.ForgetRequest, self._forget),
        }
        self._address = address
        self._server = await start_server(address, [service("fedparty.v1.local.Worker", handlers)])

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    @property
    def running(self) -> list[tuple[TaskRun, Member]]:
        return [key for key, report in self.states.items() if report.state in OPEN]

    async def end(self, role: str, state: str, **fields: str) -> None:
        """End what runs of a role."""
        async with self.changed:
            for (run, member), report in self.states.items():
                if member.role == role and report.state in OPEN:
                    self._report(run, member, state, **fields)
            self.changed.notify_all()

    async def end_one(self, index: int, state: str) -> None:
        """End one of those that run."""
        async with self.changed:
            self._report(*self.running[index], state)
            self.changed.notify_all()

    async def end_all(self, state: str) -> None:
        """End all that run."""
        async with self.changed:
            for run, member in self.running:
                self._report(run, member, state)
            self.changed.notify_all()

    async def until_running(self, count: int = 1) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: len(self.running) >= count), 30)

    async def until_idle(self) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: not self.running), 30)

    def _report(self, run: TaskRun, member: Member, state: str, **fields: str) -> None:
        self.states[run, member] = peer_pb2.TaskReport(role=member.role, party=member.party, state=state, **fields)

    async def _describe(self, _request: local_pb2.DescribeRequest, _context: Context) -> local_pb2.DescribeReply:
        return local_pb2.DescribeReply(cores=2, memory_bytes=8 << 30, gpus=2, unheld=self.unheld)

    async def _start(self, request: local_pb2.LaunchRequest, context: Context) -> local_pb2.LaunchReply:
        bearer_of(context)
        key = run_from(request.run), Member.parse(request.member)
        if request.code and request.code not in self.codes:
            return local_pb2.LaunchReply(needs_code=True)
        async with self.changed:
            self.isolation[key] = request.isolation
            if key not in self.states:
                self.doubles += [f"{key} starts while {other} runs" for other in self.running if _is_other(other, key)]
                self.starts.append(key)
                self.parameters[key] = json.loads(request.parameters)
                self.remaining_s[key] = request.remaining_s
                self.tables[key] = json.loads(request.tables)
                self._begin(request.component, *key)
            self.changed.notify_all()
        return local_pb2.LaunchReply()

    def _begin(self, component: str, run: TaskRun, member: Member) -> None:
        if component in ("succeed", "custom:own.Succeed") or (component == "hang_guest" and member.role != "guest"):
            self._report(run, member, "success", result=json.dumps({"role": member.role}))
        elif component == "fail" and member.role == "host":
            self._report(run, member, "failed", error="no such table", hint="Bind the table.")
        else:
            self._report(run, member, "running")

    async def _bring(self, messages: AsyncIterator[bytes], context: Context) -> local_pb2.BringReply:
        bearer_of(context)
        header = parse(local_pb2.CodeHeader, await next_message(messages))
        self.codes[header.sha256] = await read_bytes(messages, header.size_bytes)
        return local_pb2.BringReply()

    async def _stop(self, request: local_pb2.HaltRequest, _context: Context) -> local_pb2.HaltReply:
        run = run_from(request.run)
        async with self.changed:
            for each, member in self.states:
                if each == run and self.states[each, member].state in OPEN:
                    self._report(run, member, "canceled")
            self.changed.notify_all()
        return local_pb2.HaltReply()

    async def _watch(self, request: local_pb2.WatchRequest, _context: Context) -> AsyncIterator[peer_pb2.TaskReport]:
        run = run_from(request.run)
        said: dict[Member, str] = {}
        while True:
            async with self.changed:
                now = {member: report for (each, member), report in self.states.items() if each == run}
                if not now:
                    raise catalogue.error("NOT_KNOWN", "no such run")
                if all(said.get(member) == report.state for member, report in now.items()):
                    await self.changed.wait()
                    continue
            for member, report in now.items():
                if said.get(member) != report.state:
                    said[member] = report.state
                    yield report
            if all(report.state not in OPEN for report in now.values()):
                return

    async def _take_over(self, request: local_pb2.TakeOverRequest, _context: Context) -> local_pb2.TakeOverReply:
        old, member = run_from(request.old), Member.parse(request.member)
        if (old, member) not in self.states or old.job in self.forgotten:
            raise catalogue.error("NOT_KNOWN", "it is gone")
        self.taken_over.append((old.task, member.role))
        return local_pb2.TakeOverReply()

    async def _forget(self, request: local_pb2.ForgetRequest, _context: Context) -> local_pb2.ForgetReply:
        self.forgotten.append(request.job)
        return local_pb2.ForgetReply()

    async def _read_metrics(self, request: local_pb2.ReadLogRequest, _context: Context) -> AsyncIterator[bytes]:
        yield self.metrics.get(Member.parse(request.member).role, b"")[request.offset_bytes :]
        if request.follow:
            await self.until_idle()

    async def _list_outputs(self, _request: Any, _context: Context) -> local_pb2.ListOutputsReply:
        files = [local_pb2.OutputFile(name=name, size_bytes=len(data)) for name, data in self.outputs.items()]
        return local_pb2.ListOutputsReply(files=files)

    async def _read_output(self, request: local_pb2.ReadOutputRequest, _context: Context) -> AsyncIterator[bytes]:
        yield self.outputs[request.name]

    async def _describe_table(
        self, request: local_pb2.DescribeTableRequest, _context: Context
    ) -> local_pb2.DescribeTableReply:
        if request.path not in self.files:
            raise catalogue.error("BAD_REQUEST", f"table file {request.path!r}: No such file", hint="Put it there.")
        described = self.files[request.path] | {"name": request.name, "id_column": request.id_column or None}
        return local_pb2.DescribeTableReply(table=json.dumps(described))

    async def _read_log(self, request: local_pb2.ReadLogRequest, _context: Context) -> AsyncIterator[bytes]:
        role = Member.parse(request.member).role
        log = self.logs.get(role, json.dumps({"role": role, "attempt": request.run.attempt}).encode() + b"\n")
        log = log[request.offset_bytes :]
        half = len(log) // 2
        for start in (*range(0, half, _CHUNK_BYTES), *range(half, len(log), _CHUNK_BYTES)):
            chunk = log[start : min(start + _CHUNK_BYTES, half if start < half else len(log))]
            self.read_bytes += len(chunk)
            yield chunk
        if request.follow:
            self.followers += 1
            try:
                async with self.changed:
                    await self.changed.wait_for(lambda: not self.running)
            finally:
                self.followers -= 1
            yield b'{"message": "ended"}\n'


def _is_other(one: tuple[TaskRun, Member], other: tuple[TaskRun, Member]) -> bool:
    """Return whether two processes are of different attempts of one role."""
    (one_run, one_member), (other_run, other_member) = one, other
    is_same_task = (one_run.job, one_run.task) == (other_run.job, other_run.task)
    return one_member == other_member and is_same_task and one_run != other_run


class _Relay(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """A party's egress and the others' ingresses: routes, sets the caller's identity, says what broke."""

    _SOCKETS: Mapping[str, tuple[str, str]] = {
        "fedparty.v1.peer.Coordination": ("flow-peer.sock", "FLOW"),
        "fedparty.v1.peer.Mailbox": ("federation-peer.sock", "MAILBOX"),
    }

    def __init__(self, party: FlowParty) -> None:
        self._party = party
        self._channels: dict[str, grpc.aio.Channel] = {}

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        async def relay(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            headers = dict(context.invocation_metadata() or ())
            peer = await self._route(str(headers["x-fedparty-to"]), method, context)
            sock, name = self._SOCKETS[method.split("/")[1]]
            sock = sock.replace("flow", peer.led_by)
            address = f"unix:{peer.home}/run/{sock}"
            channel = self._channels.setdefault(address, open_channel(address))
            calls: list[Any] = []

            def forward(messages: AsyncIterator[bytes]) -> Any:
                calls.append(
                    channel.stream_stream(method, None, None)(messages, metadata=self._party.identity_at(peer))
                )
                self._party.streams.append(calls[-1])
                return calls[-1]

            if method.endswith("/Supervise") and peer.is_mute:
                return
            me, faults = self._party.party, self._party.lab.faults
            try:
                async for answer in faults.pass_on(me, peer.party, method, requests, forward, context):
                    yield answer
            except grpc.aio.AioRpcError as exc:
                details = exc.details() or ""
                if not details.startswith("[") and exc.code() is grpc.StatusCode.UNAVAILABLE:
                    details = f"[PEER_{name}_DOWN] party {peer.party}'s {name.lower()} does not answer its proxy"
                await context.abort(exc.code(), details, tuple(exc.trailing_metadata() or ()))
            except asyncio.CancelledError:
                if not any(call.cancelled() for call in calls) or self._party.is_cutting is False:
                    raise
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            finally:
                for call in calls:
                    call.cancel()

        return grpc.stream_stream_rpc_method_handler(relay)

    async def _route(self, to: str, method: str, context: Context) -> FlowParty:
        lab = self._party.lab
        me = self._party.party
        if to not in lab.parties:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"[UNKNOWN_PARTY] {me}'s proxy has no route to party {to}")
        if to in lab.without_lines and method.endswith("/Queue"):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"[NOT_ALLOWED] {me}'s proxy does not know {method}")
        if to in lab.unreachable:
            details = f"[PEER_UNREACHABLE] {me}'s proxy cannot reach party {to}"
            await context.abort(grpc.StatusCode.UNAVAILABLE, details)
        return lab.parties[to]

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


@dataclass
class FlowLab:
    """Parties side by side, in folders with short paths."""

    root: Path
    authority: Authority
    database: Databases = sqlite_in
    parties: dict[str, FlowParty] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    faults: Faults = field(default_factory=Faults)
    without_lines: set[str] = field(default_factory=set)
    """Parties of the release before this one: their proxies let no `Queue` through."""

    def publish_revocations(self) -> None:
        for party in self.parties.values():
            new = party.home / "crl" / "crl.new"
            new.write_bytes(self.authority.crl_pem())
            new.rename(party.home / "crl" / "crl.pem")


class FlowParty:
    """One party: its home, its services."""

    def __init__(self, lab: FlowLab, party: str, **settings: Any) -> None:
        self.lab = lab
        self.party = party
        self.home = lab.root / party
        self.worker = ScriptedWorker()
        self.streams: list[Any] = []
        self.is_cutting = False
        self.is_mute = False
        """Whether this party's reports end before they begin."""
        self.proxy_secret = f"secret-of-{party}"
        self.serial = ""
        self._write()
        self.settings = self._flow_settings(**settings)
        self.egress_server: Server
        self._mailbox: asyncio.Task[None]
        self._stop_mailbox = asyncio.Event()
        self._stop = asyncio.Event()
        self.led_by = "flow"
        """Where others reach this party's flow: the name of its sockets, as `Replicas` says."""
        self._flow: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @asynccontextmanager
    async def neighbours(self) -> AsyncIterator[None]:
        """Run proxy, mailbox and worker while the block runs."""
        self._mailbox = asyncio.create_task(serve_mailbox(self._federation_settings(), self._stop_mailbox))
        relay = _Relay(self)
        self.egress_server = await start_server(self.settings.egress, [relay])
        await self.worker.listen(self.settings.worker)
        try:
            yield
        finally:
            await self.stop_flow()
            await self.worker.close()
            await self.egress_server.stop(0)
            await relay.close()
            await self.stop_mailbox()

    async def stop_mailbox(self) -> None:
        self._stop_mailbox.set()
        await self._mailbox

    async def restart_mailbox(self) -> None:
        await self.stop_mailbox()
        self._stop_mailbox = asyncio.Event()
        self._mailbox = asyncio.create_task(serve_mailbox(self._federation_settings(), self._stop_mailbox))

    async def start_flow(self) -> None:
        """Start the flow in this process; returns when it answers."""
        self._stop = asyncio.Event()
        self._flow = asyncio.create_task(serve_flow(self.settings, self._stop))
        await self._until_answering(self._flow.done)
        if self._flow.done():
            await self._flow

    async def crash_flow(self) -> None:
        """Break off the flow in this process where it is: of what was not recorded yet, nothing is."""
        assert self._flow is not None
        self._flow.cancel()
        await asyncio.gather(self._flow, return_exceptions=True)
        self._flow = None

    async def stop_flow(self) -> None:
        """Stop it gracefully, or kill the process."""
        self._stop.set()
        if self._flow is not None:
            await self._flow
            self._flow = None
        if self._process is not None:
            self.kill_flow()

    async def start_flow_process(self, *, clock_s: float = 0.0, files: int | None = None) -> None:
        """Start the flow as a process, as a supervisor does.

        Parameters
        ----------
        clock_s
            How far its clock is wrong; the mailbox then runs in it, too.
        files
            How many it may open at first.
        """
        services: dict[str, Any] = {"flow": self.settings}
        if clock_s:
            await self.stop_mailbox()
            services["federation"] = self._federation_settings()
        for name, each in services.items():
            settings = self.home / "bundle" / name / "settings.json"
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text(each.model_dump_json())
        command = [sys.executable, "-m", "fedparty", "serve", *services, "--home", str(self.home)]
        if files is not None:
            command = ["sh", "-c", f'ulimit -Sn {files}; exec "$@"', "sh", *command]
        with (self.home / "flow.log").open("ab") as log:
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}  # the scripted components
            if clock_s:
                environment |= wrong_clock(self.home, clock_s)
            self._process = process = await asyncio.to_thread(
                subprocess.Popen, command, stdout=log, stderr=log, env=environment
            )
        await self._until_answering(lambda: process.poll() is not None)
        assert process.poll() is None, (self.home / "flow.log").read_text()

    @property
    def flow_pid(self) -> int:
        """The flow's process, where it is one."""
        assert self._process is not None
        return self._process.pid

    def kill_flow(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def session(self, token: str = TOKEN) -> Session:
        return Session(f"unix:{self.home}/run/{self.led_by}-rest.sock", Secret(token))

    def cut_streams(self) -> None:
        """Break every connection that this party has to others now."""
        self.is_cutting = True
        for stream in self.streams:
            stream.cancel()

    async def call(self, ask: Callable[[Session], Any]) -> Any:
        """Ask this party as its people do; the client blocks: in a thread, and in none that the flow needs itself."""

        def asked() -> Any:
            with self.session() as session:
                return ask(session)

        return await asyncio.get_running_loop().run_in_executor(_PEOPLE, asked)

    async def submit(self, job: Mapping[str, Any], package: Package | None = None) -> str:
        return str((await self.call(lambda session: session.submit(job, package))).id)

    async def until(self, job: str, *states: str, timeout_s: float = 15) -> JobStatus:
        """Return a job once it is in one of the states (default: a final one)."""
        now: JobStatus | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    now = await self.call(lambda session: session.job(job))
                    if now.state in states or (not states and now.is_final):
                        return now
                    known = {"wait_s": 1, "known_state": now.state}
                    await self.call(lambda session, known=known: session._show(job, known))
        except TimeoutError:
            raise AssertionError(f"after {timeout_s} s: {now}; started here: {self.worker.starts}") from None

    async def until_started(self, job: str, attempt: int, timeout_s: float = 10) -> None:
        """Return once all of this party's roles run in an attempt."""

        def has_started(status: JobStatus) -> bool:
            own = [task for task in status.tasks if task.attempt == attempt and task.party == self.party]
            return bool(own) and all(task.state == "running" for task in own)

        async with asyncio.timeout(timeout_s):
            while not has_started(await self.call(lambda session: session.job(job))):  # noqa: ASYNC110 - as below
                await asyncio.sleep(0.02)

    async def until_role(self, job: str, state: str, timeout_s: float = 10) -> None:
        """Return once a role of this party is in a state."""
        async with asyncio.timeout(timeout_s):
            while state not in {  # noqa: ASYNC110 - as below
                task.state for task in (await self.call(lambda session: session.job(job))).tasks
            }:
                await asyncio.sleep(0.02)

    async def free_cores(self) -> float:
        return float((await self.call(lambda session: session.party())).free_cores)

    async def until_free(self, cores: float, timeout_s: float = 10) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.free_cores() != cores:  # noqa: ASYNC110 - from outside there is nothing to wait on
                await asyncio.sleep(0.02)

    async def readiness(self) -> tuple[int, Any]:
        transport = httpx.AsyncHTTPTransport(uds=str(self.home / "run" / "flow-operations.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://flow") as client:
            answer = await client.get("/readyz")
            return answer.status_code, answer.json()

    def signer(self) -> TokenSigner:
        """Return what signs in this party's name."""
        home = self.home
        return TokenSigner(home / "signing.key", home / "signing.crt", FEDERATION, PartyId(self.party))

    def identity_at(self, peer: FlowParty) -> tuple[tuple[str, str], ...]:
        """Return the headers that the peer's ingress sets for this party."""
        return (
            ("x-fedparty-from", party_uri(FEDERATION, self.party)),
            ("x-fedparty-serial", self.serial),
            ("x-fedparty-proxy", peer.proxy_secret),
        )

    async def coordinate(self, peer: FlowParty, method: str, request: Any, reply: Any, **headers: str) -> Any:
        """Call a peer's coordination directly, as its ingress would for this party; errors are of the catalogue."""
        metadata = {**dict(self.identity_at(peer)), **headers}
        async with open_channel(peer.settings.peer) as channel:
            call = channel.unary_unary(
                f"/fedparty.v1.peer.Coordination/{method}", type(request).SerializeToString, reply.FromString
            )
            try:
                return await call(request, metadata=tuple(metadata.items()), timeout=10)
            except grpc.aio.AioRpcError as exc:
                raise catalogue.from_rpc_error(exc) from exc

    async def follow(self, peer: FlowParty, method: str, request: Any, reply: Any) -> list[Any]:
        """Read a stream of a peer's coordination, as `coordinate` calls it, to its end."""
        async with open_channel(peer.settings.peer) as channel:
            call = channel.unary_stream(
                f"/fedparty.v1.peer.Coordination/{method}", type(request).SerializeToString, reply.FromString
            )
            try:
                return [answer async for answer in call(request, metadata=self.identity_at(peer), timeout=20)]
            except grpc.aio.AioRpcError as exc:
                raise catalogue.from_rpc_error(exc) from exc

    async def _until_answering(self, has_ended: Callable[[], bool], timeout_s: float = 20) -> None:
        path, deadline = self.home / "run" / "flow-operations.sock", time.monotonic() + timeout_s
        while not has_ended():
            assert time.monotonic() < deadline, "the flow did not start"
            try:
                _, writer = await asyncio.open_unix_connection(path)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return

    def _write(self) -> None:
        for folder in ("run", "crl", "data"):
            (self.home / folder).mkdir(parents=True)
        key, tls_key = generate_key(), generate_key()
        (self.home / "signing.key").write_bytes(key_to_pem(key))
        (self.home / "signing.crt").write_bytes(self.lab.authority.issue_signing(self.party, key.public_key()))
        tls = x509.load_pem_x509_certificate(self.lab.authority.issue_tls(self.party, tls_key.public_key()))
        self.serial = f"{tls.serial_number:x}"
        (self.home / "ca.crt").write_bytes(self.lab.authority.certificate_pem)
        (self.home / "crl" / "crl.pem").write_bytes(self.lab.authority.crl_pem())
        (self.home / "proxy-secret").write_text(self.proxy_secret)
        (self.home / "api-token").write_text(TOKEN + "\n")
        self.allow(EVERYTHING)

    def allow(self, policy: str) -> None:
        """Put a policy in force."""
        folder = self.home / "policy"
        folder.mkdir(exist_ok=True)
        (folder / "new").write_text(policy)
        (folder / "new").rename(folder / "policy.yaml")

    def _common(self, service_name: str) -> dict[str, Any]:
        return {
            "party": self.party,
            "federation": FEDERATION,
            "operations": f"unix:{self.home}/run/{service_name}-operations.sock",
            "ca_certificate": self.home / "ca.crt",
            "revocations": self.home / "crl" / "crl.pem",
            "proxy_secret": self.home / "proxy-secret",
        }

    def _federation_settings(self) -> FederationSettings:
        return FederationSettings(
            **self._common("federation"),
            local=self.settings.mailbox,
            peer=f"unix:{self.home}/run/federation-peer.sock",
            spool=self.home / "data" / "spool",
            spool_quota_bytes=1 << 30,
        )

    def _flow_settings(self, **more: Any) -> FlowSettings:
        run = f"unix:{self.home}/run"
        settings = FlowSettings(
            **self._common("flow"),
            rest=f"{run}/flow-rest.sock",
            peer=f"{run}/flow-peer.sock",
            egress=f"{run}/egress.sock",
            mailbox=f"{run}/federation-local.sock",
            worker=f"{run}/worker.sock",
            api_token=self.home / "api-token",
            policy=self.home / "policy" / "policy.yaml",
            audit_log=self.home / "data" / "audit.jsonl",
            signing_key=self.home / "signing.key",
            signing_certificate=self.home / "signing.crt",
            **({"cores": 4, "peer_timeout_s": 3} | self.lab.database(self.home) | more),
        )
        upgrade(settings)
        return settings


@asynccontextmanager
async def flow_lab(
    *parties: str, start: bool = True, database: Databases = sqlite_in, **settings: Any
) -> AsyncIterator[FlowLab]:
    """Run a federation of `parties`, with `settings` for each flow, and a database for each from `database`."""
    with tempfile.TemporaryDirectory(prefix="fp-flow-", dir="/tmp") as folder:
        root = Path(folder)
        lab = FlowLab(root, Authority.open_or_create(root / "ca", FEDERATION, 30), database)
        async with AsyncExitStack() as stack:
            for party in parties:
                lab.parties[party] = FlowParty(lab, party, **settings)
                await stack.enter_async_context(lab.parties[party].neighbours())
            if start:
                for each in lab.parties.values():
                    await each.start_flow()
            yield lab
