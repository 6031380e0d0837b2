"""The worker as a real process: its service, its fork server, its tasks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import psutil
import pytest
import worker_components
from worker_party import FEDERATION, JOB, LOG_LIMIT_BYTES, WorkerParty

from fedparty.errors import RpcError
from fedparty.pki.authority import Authority
from fedparty.rpc import catalogue
from fedparty.rpc.channels import bearer, open_channel
from fedparty.rpc.v1 import local_pb2, peer_pb2
from fedparty.types import Member, PartyId, TaskRun

GUEST, HOST = Member("guest", PartyId("10000")), Member("host", PartyId("9999"))
OWN_HOST = Member("host", PartyId("10000"))
SERVICE = "/fedparty.v1.local.Worker"


@dataclass
class Client:
    """A flow, as far as the worker can tell."""

    party: WorkerParty
    channel: grpc.aio.Channel

    async def launch(
        self,
        run: TaskRun,
        component: str,
        member: Member = GUEST,
        members: tuple[Member, ...] = (GUEST, HOST),
        remaining_s: float = 30.0,
        cores: float = 0.1,
        memory_bytes: int = 0,
        gpus: int = 0,
        tables: str = "",
        **parameters: Any,
    ) -> None:
        request = local_pb2.LaunchRequest(
            run=wire(run),
            member=str(member),
            members=map(str, members),
            component=component,
            parameters=json.dumps(parameters),
            token=self.party.signer().task(run, member, 60) if member.party == self.party.party else "",
            remaining_s=remaining_s,
            cores=cores,
            memory_bytes=memory_bytes,
            gpus=gpus,
            tables=tables,
        )
        await self.call("Start", request)

    async def call(self, method: str, request: Any, token: str | None = None) -> None:
        metadata = bearer(self.token() if token is None else token)
        try:
            await self.channel.unary_unary(f"{SERVICE}/{method}", lambda message: message.SerializeToString())(
                request, metadata=metadata, timeout=20
            )
        except grpc.aio.AioRpcError as exc:
            raise catalogue.from_rpc_error(exc) from exc

    async def ask(self, method: str, request: Any, reply: Any) -> Any:
        call = self.channel.unary_unary(f"{SERVICE}/{method}", type(request).SerializeToString, reply.FromString)
        try:
            return await call(request, metadata=bearer(self.token()), timeout=20)
        except grpc.aio.AioRpcError as exc:
            raise catalogue.from_rpc_error(exc) from exc

    async def output(self, run: TaskRun, name: str, offset: int = 0) -> bytes:
        request = local_pb2.ReadOutputRequest(run=wire(run), member=str(GUEST), name=name, offset_bytes=offset)
        call = self.channel.unary_stream(f"{SERVICE}/ReadOutput", type(request).SerializeToString, None)
        try:
            chunks = call(request, metadata=bearer(self.token()), timeout=20)
            return b"".join([chunk async for chunk in chunks])
        except grpc.aio.AioRpcError as exc:
            raise catalogue.from_rpc_error(exc) from exc

    async def watch(self, run: TaskRun) -> list[peer_pb2.TaskReport]:
        call = self.channel.unary_stream(
            f"{SERVICE}/Watch", local_pb2.WatchRequest.SerializeToString, peer_pb2.TaskReport.FromString
        )(local_pb2.WatchRequest(run=wire(run)), metadata=bearer(self.token()), timeout=40)
        try:
            return [report async for report in call]
        except grpc.aio.AioRpcError as exc:
            raise catalogue.from_rpc_error(exc) from exc

    async def outcome(self, run: TaskRun) -> peer_pb2.TaskReport:
        return (await self.watch(run))[-1]

    async def log(
        self, run: TaskRun, member: Member = GUEST, *, follow: bool = True, offset: int = 0
    ) -> AsyncIterator[bytes]:
        call = self.channel.unary_stream(f"{SERVICE}/ReadLog", local_pb2.ReadLogRequest.SerializeToString, None)(
            local_pb2.ReadLogRequest(run=wire(run), member=str(member), follow=follow, offset_bytes=offset),
            metadata=bearer(self.token()),
            timeout=40,
        )
        async for data in call:
            yield data

    async def lines(self, run: TaskRun, member: Member = GUEST) -> list[dict[str, Any]]:
        data = b"".join([chunk async for chunk in self.log(run, member)])
        return [json.loads(line) for line in data.splitlines()]

    def token(self) -> str:
        return str(self.party.signer().service("worker"))

    def folder(self, run: TaskRun, member: Member = GUEST) -> Path:
        name = f"{member.role}-{member.party}"
        return self.party.home / "data/worker/jobs" / run.job / run.task / str(run.attempt) / name


def wire(run: TaskRun) -> peer_pb2.RunId:
    return peer_pb2.RunId(job=run.job, task=run.task, attempt=run.attempt)


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def root() -> Any:
    with tempfile.TemporaryDirectory(prefix="fp-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def authority(root: Path) -> Authority:
    return Authority.open_or_create(root / "ca", FEDERATION)


@pytest.fixture(scope="module")
def environment(root: Path) -> dict[str, str]:
    return worker_components.install(root / "packages") | {"SECRET_OF_THE_SERVICE": "x"}


@pytest.fixture(scope="module")
def parties(root: Path, authority: Authority, environment: dict[str, str]) -> Any:
    started = []
    for name in ("10000", "9999"):
        party = WorkerParty(root, name, authority)
        party.write()
        party.start(environment)
        started.append(party)
    yield started
    for party in started:
        assert party.stop() == 0
        assert not (party.home / "run" / "worker.sock").exists()


@pytest.fixture
async def client(parties: list[WorkerParty]) -> AsyncIterator[Client]:
    async with open_channel(parties[0].address("worker")) as channel:
        yield Client(parties[0], channel)


@pytest.fixture
async def other(parties: list[WorkerParty]) -> AsyncIterator[Client]:
    async with open_channel(parties[1].address("worker")) as channel:
        yield Client(parties[1], channel)


@pytest.fixture
def run(request: pytest.FixtureRequest) -> TaskRun:
    """A run that no other test has."""
    return TaskRun(JOB, f"t{abs(hash(request.node.name))}", 1)


async def test_two_parties_compute_the_secure_sum(client: Client, other: Client, run: TaskRun):
    for each in (client, other):
        await each.party.register(run, [GUEST, HOST])
    await client.launch(run, "secure_sum", data_num=1000)
    await other.launch(run, "secure_sum", HOST, data_num=1000)
    reports = await client.watch(run)
    assert [(report.role, report.party, report.state) for report in reports] == [
        ("guest", "10000", "running"),
        ("guest", "10000", "success"),
    ]
    assert json.loads(reports[-1].result) == {"secure_sum": 2000.0}
    assert (await other.outcome(run)).state == "success"
    lines = await client.lines(run)
    assert lines[-1]["message"] == "success to calculate secure_sum, it is 2000.0"
    assert lines[0] | {"time": "", "source": ""} == {
        "time": "",
        "level": "INFO",
        "service": "task",
        "party": "10000",
        "job": JOB,
        "task": run.task,
        "attempt": 1,
        "role": "guest",
        "source": "",
        "message": "begin to init parameters of secure add example guest",
    }
    assert lines[0]["source"].startswith("secure_sum.py:")
    assert (await other.lines(run, HOST))[-1]["message"] == "send host sum to guest"


async def test_two_roles_of_one_party(client: Client, run: TaskRun):
    members = (GUEST, OWN_HOST)
    await client.party.register(run, list(members))
    for member in members:
        await client.launch(run, "secure_sum", member, members)
    assert {report.role: report.state for report in await client.watch(run)} == {"guest": "success", "host": "success"}


async def test_a_task_is_a_process_of_its_own_with_nothing_inherited(client: Client, run: TaskRun):
    looks = []
    for attempt in (1, 2):
        await client.launch(TaskRun(run.job, run.task, attempt), "looks")
        looks.append(json.loads((await client.outcome(TaskRun(run.job, run.task, attempt))).result))
    seen = looks[0]
    folder = client.folder(run)
    assert seen["pid"] == seen["session"]
    assert seen["folder"] == str(folder)
    assert "SECRET_OF_THE_SERVICE" not in seen["environment"]
    assert seen["environment"]["HOME"] == str(folder)
    assert seen["files"]["0"] == "/dev/null"
    assert seen["files"]["1"] == seen["files"]["2"]
    assert seen["files"]["1"].startswith("pipe:")
    control = [name for name in seen["files"].values() if "worker" in name]
    assert control == [str(folder / "log.jsonl")]
    assert seen["core"] == [0, 0]
    assert seen["interrupt"] is True
    assert seen["mask"] == 0
    assert looks[0]["pid"] != looks[1]["pid"]
    assert looks[0]["random"] != looks[1]["random"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o77 for path in folder.iterdir()} == {0}


async def test_an_error_of_the_component_is_told_and_its_traceback_logged(client: Client, run: TaskRun):
    await client.launch(run, "raises")
    report = await client.outcome(run)
    assert report.state == "failed"
    assert report.error == "raises (guest:10000): ValueError: no data here"
    assert report.hint == (
        f"The traceback is in its log at party 10000: jobs/{run.job}/{run.task}/1/guest-10000/log.jsonl"
    )
    line = (await client.lines(run))[-1]
    assert (line["level"], line["message"]) == ("ERROR", "ValueError: no data here")
    assert 'raise ValueError("no data here")' in line["traceback"]


@pytest.mark.parametrize(
    ("component", "state", "error"),
    [
        ("dies", "lost", "dies (guest:10000): its process was killed by signal 9 (Killed)"),
        ("exits", "lost", "exits (guest:10000): its process ended with exit code 3 and without a verdict"),
        ("no_such", "failed", "no_such (guest:10000): there is no component 'no_such' here"),
        ("unwritable", "failed", "unwritable (guest:10000): its result cannot be written as JSON"),
        ("large", "failed", "large (guest:10000): its result has 6000002 bytes, more than 1048576"),
        ("garbled", "failed", r"garbled (guest:10000): ValueError: bad \ud800"),
    ],
)
async def test_other_ends(client: Client, run: TaskRun, component: str, state: str, error: str):
    await client.launch(run, component)
    report = await client.outcome(run)
    assert report.state == state
    assert report.error.startswith(error)
    assert report.hint
    if component == "dies":
        assert (client.folder(run) / "output.log").read_text() == "my last words\n"


async def test_a_role_that_the_component_does_not_have(client: Client, run: TaskRun):
    arbiter = Member("arbiter", PartyId("10000"))
    await client.launch(run, "secure_sum", arbiter, (GUEST, arbiter))
    report = await client.outcome(run)
    assert report.error == "secure_sum (arbiter:10000): SecureSum has no role 'arbiter'"
    assert report.hint == "It has guest, host."


async def test_starting_twice_starts_once(client: Client, run: TaskRun):
    await client.party.register(run, [GUEST, HOST])
    for _ in range(2):
        await client.launch(run, "waits")
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)))
    await client.launch(run, "waits")
    assert len(await client.lines(run)) <= 1
    assert (await client.outcome(run)).state == "canceled"


async def test_a_wait_that_never_ends_is_a_time_out_that_says_for_what(client: Client, run: TaskRun):
    await client.party.register(run, [GUEST, HOST])
    await client.launch(run, "waits", remaining_s=1.0)
    report = await client.outcome(run)
    assert report.state == "timeout"
    assert report.error.startswith("waits (guest:10000): waiting for tag 'never' from host:9999")
    assert "9999" in report.hint


async def test_a_task_that_does_not_wait_is_killed_at_its_limit(client: Client, run: TaskRun):
    await client.launch(run, "talks", remaining_s=0.5)
    report = await client.outcome(run)
    assert (report.state, report.error) == ("timeout", "talks (guest:10000): killed after its time limit of 0.5 s")


async def test_stopping_kills_all_that_a_task_has_started(client: Client, run: TaskRun):
    await client.launch(run, "spawns")
    async for data in client.log(run):
        if b"ready" in data:
            break
    pids = [int(pid) for pid in (client.folder(run) / "pids").read_text().split()]
    assert len(pids) == 4
    assert all(map(is_alive, pids))
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)))
    assert not is_alive(pids[0])
    await eventually(lambda: not any(map(is_alive, pids)))
    report = await client.outcome(run)
    assert (report.state, report.error) == ("canceled", "spawns (guest:10000): stopped")


async def test_a_task_that_ignores_signals_is_ended_with_its_child(client: Client, run: TaskRun):
    await client.launch(run, "stubborn")
    async for data in client.log(run):
        if b"ready" in data:
            break
    pids = [int(pid) for pid in (client.folder(run) / "pids").read_text().split()]
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)))
    await eventually(lambda: not any(map(is_alive, pids)))
    assert (await client.outcome(run)).state == "canceled"


async def test_everything_that_a_task_has_forked_ends_with_it(client: Client, run: TaskRun) -> None:
    await client.launch(run, "forks", children=40)
    pids = client.folder(run) / "pids"
    await eventually(lambda: pids.exists() and len(pids.read_text().splitlines()) == 80)
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)))
    await eventually(lambda: not any(map(is_alive, map(int, pids.read_text().split()))))
    assert (await client.outcome(run)).state == "canceled"


@pytest.mark.matrix
async def test_a_task_that_leaks_memory_ends_at_its_limit(client: Client, run: TaskRun) -> None:
    await client.launch(run, "leaks", memory_bytes=400 << 20)
    report = await client.outcome(run)
    assert report.state == "failed"
    assert report.error.startswith("leaks (guest:10000): it needs more memory than the 400 MiB that it may use")


async def test_the_worker_says_what_its_machine_has(client: Client):
    reply = local_pb2.DescribeReply.FromString(
        await client.channel.unary_unary(f"{SERVICE}/Describe")(b"", metadata=bearer(client.token()), timeout=10)
    )
    assert 0 < reply.cores <= (os.cpu_count() or 1)
    assert reply.memory_bytes > 1 << 28


async def test_a_task_gets_as_much_memory_as_it_asked_for_and_no_more(client: Client, run: TaskRun):
    await client.launch(run, "hungry", memory_bytes=400 << 20, mib=390)
    assert (await client.outcome(run)).state == "success"
    second = TaskRun(run.job, run.task, 2)
    await client.launch(second, "hungry", memory_bytes=400 << 20, mib=900)
    report = await client.outcome(second)
    assert report.state == "failed"
    assert report.error.startswith("hungry (guest:10000): it needs more memory than the 400 MiB that it may use")
    assert "memory_bytes" in report.hint
    third = TaskRun(run.job, run.task, 3)
    await client.launch(third, "hungry", memory_bytes=400 << 20, mib=900, in_child=True)
    assert json.loads((await client.outcome(third)).result) == 1
    assert "MemoryError" in (client.folder(third) / "output.log").read_text()


async def test_a_task_runs_on_as_many_cpus_as_it_asked_for(client: Client, run: TaskRun):
    every = sorted(os.sched_getaffinity(client.party.pid))
    await client.launch(run, "looks", cores=1)
    seen = json.loads((await client.outcome(run)).result)["cpus"]
    assert len(seen) == 1
    assert set(seen) <= set(every)
    second = TaskRun(run.job, run.task, 2)
    await client.launch(second, "looks", cores=len(every))
    looks = json.loads((await client.outcome(second)).result)
    assert looks["cpus"] == every
    assert looks["environment"]["CUDA_VISIBLE_DEVICES"] == ""


async def test_gpus_that_are_not_there_are_named(client: Client, run: TaskRun):
    await client.launch(run, "looks", gpus=1000)
    report = await client.outcome(run)
    assert (report.state, report.error.partition(", ")[0]) == (
        "lost",
        "looks (guest:10000): it asks for 1000 GPUs",
    )


@pytest.mark.matrix
async def test_a_gigabyte_of_print_and_of_log_is_no_burden(client: Client, run: TaskRun) -> None:
    service = psutil.Process(client.party.pid)
    services = [service, *service.children(recursive=True)]
    before = sum(each.memory_info().rss for each in services)
    second = TaskRun(run.job, run.task, 2)
    await client.launch(run, "prints", mib=1024, remaining_s=100.0)
    await client.launch(second, "chatters", mib=1024, remaining_s=100.0)
    for each in (run, second):
        assert (await client.outcome(each)).state == "success"
        assert sum(path.stat().st_size for path in client.folder(each).iterdir()) < LOG_LIMIT_BYTES + (1 << 18)
    assert sum(each.memory_info().rss for each in services) < before + (64 << 20)


async def test_what_a_task_prints_ends_at_the_limit_with_a_line_that_says_so(client: Client, run: TaskRun):
    await client.launch(run, "prints", mib=100)
    assert (await client.outcome(run)).state == "success"
    output = client.folder(run) / "output.log"
    assert output.stat().st_size < LOG_LIMIT_BYTES + 200
    assert output.read_bytes().endswith(b"bytes were printed; the rest is dropped]\n")


async def test_a_log_ends_at_the_limit_with_a_line_that_says_so(client: Client, run: TaskRun):
    await client.launch(run, "chatters", mib=20)
    assert (await client.outcome(run)).state == "success"
    lines = await client.lines(run)
    assert lines[0]["message"].endswith("y… (983040 characters more)")
    assert lines[-1]["message"] == f"the log has reached {LOG_LIMIT_BYTES} bytes: the rest is dropped"
    assert (client.folder(run) / "log.jsonl").stat().st_size < LOG_LIMIT_BYTES + (1 << 17)


async def test_a_full_disk_is_named(client: Client, run: TaskRun):
    await client.launch(run, "disk_full")
    report = await client.outcome(run)
    assert report.state == "failed"
    assert report.error.startswith("disk_full (guest:10000): the disk is full")
    assert report.hint.startswith("Free space at party 10000")


async def test_a_log_is_followed_live(client: Client, run: TaskRun):
    await client.launch(run, "talks")
    reader = client.log(run)
    first = await anext(reader)
    assert json.loads(first)["message"] == "first"
    (client.folder(run) / "go").touch()
    rest = b"".join([data async for data in reader])
    assert json.loads(rest)["message"] == "second"
    assert b"".join([data async for data in client.log(run, follow=False, offset=len(first))]) == rest
    assert (client.folder(run) / "output.log").read_text() == "printed\n"
    assert json.loads((client.folder(run) / "metrics.jsonl").read_text())["name"] == "loss"


async def test_an_unknown_run_is_not_found(client: Client, run: TaskRun):
    with pytest.raises(RpcError) as told:
        await client.watch(run)
    assert told.value.code == "NOT_KNOWN"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        _ = [data async for data in client.log(run)]
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)))


async def test_a_job_is_forgotten_with_its_folders(client: Client, run: TaskRun):
    job = TaskRun(type(JOB)("10000-01JD3MYYYYYYYYYYYYYYYYYYYY"), "t", 1)
    await client.launch(job, "talks")
    with pytest.raises(RpcError, match="is still running here"):
        await client.call("Forget", local_pb2.ForgetRequest(job=job.job))
    await client.call("Stop", local_pb2.HaltRequest(run=wire(job)))
    await client.call("Forget", local_pb2.ForgetRequest(job=job.job))
    assert not client.folder(job).parents[2].exists()
    with pytest.raises(RpcError, match="was not started here"):
        await client.watch(job)


@pytest.mark.parametrize("name", ["../../etc", "10000", ""])
async def test_names_that_lead_out_of_the_folder_are_refused(client: Client, run: TaskRun, name: str):
    with pytest.raises(RpcError) as told:
        await client.call("Forget", local_pb2.ForgetRequest(job=name))
    assert told.value.code == "BAD_REQUEST"
    with pytest.raises(RpcError) as told:
        await client.launch(TaskRun(JOB, name and f"../{name}", 1), "talks")
    assert told.value.code == "BAD_REQUEST"


async def test_roles_of_other_parties_are_refused(client: Client, run: TaskRun):
    with pytest.raises(RpcError, match="host:9999 is not a role of party 10000"):
        await client.launch(run, "talks", HOST)


async def test_a_flow_that_leads_no_more_is_not_obeyed(client: Client, run: TaskRun):
    former, newest = (client.party.signer(epoch).service("worker") for epoch in (7, 8))
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)), former)
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)), newest)
    for method, request in (
        ("Start", local_pb2.LaunchRequest(run=wire(run), member=str(GUEST), component="talks")),
        ("Stop", local_pb2.HaltRequest(run=wire(run))),
        ("Forget", local_pb2.ForgetRequest(job=run.job)),
    ):
        with pytest.raises(RpcError) as told:
            await client.call(method, request, former)
        assert told.value.code == "STALE_LEADER"
    assert (client.party.home / "data" / "worker" / "leader-epoch").read_text() == "8\n"
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)), newest)
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)))


async def test_only_this_partys_flow_is_obeyed(client: Client, other: Client, run: TaskRun):
    signer = client.party.signer()
    tokens = {
        "none": "",
        "nonsense": "abc",
        "another scope": signer.service("mailbox"),
        "a task's": signer.task(run, GUEST, 60),
        "another party's": other.token(),
    }
    for what, token in tokens.items():
        for method, request in (
            ("Start", local_pb2.LaunchRequest(run=wire(run))),
            ("Stop", local_pb2.HaltRequest(run=wire(run))),
            ("Watch", local_pb2.WatchRequest(run=wire(run))),
            ("ReadLog", local_pb2.ReadLogRequest(run=wire(run))),
            ("Forget", local_pb2.ForgetRequest(job=run.job)),
        ):
            with pytest.raises(RpcError) as told:
                await client.call(method, request, token)
            assert told.value.code == "TOKEN_REFUSED", what


async def test_operations_tell_readiness_and_figures(client: Client):
    transport = httpx.AsyncHTTPTransport(uds=str(client.party.home / "run" / "worker-operations.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        assert (await http.get("/readyz")).json() == {"ready": True}
        assert "fedparty_worker_tasks_running 0.0" in (await http.get("/metrics")).text


@pytest.fixture
def lonely(root: Path, authority: Authority, environment: dict[str, str]) -> Any:
    """A party for a test that ends it."""
    party = WorkerParty(root, f"{time.monotonic_ns() % 10**8 + 1}", authority)
    party.write()
    party.start(environment)
    yield party
    with suppress(ProcessLookupError):
        party.stop(signal.SIGKILL)


async def _spawned(party: WorkerParty, run: TaskRun) -> tuple[list[int], Callable[[], Awaitable[Any]]]:
    """Start `spawns` at a party, and return its processes."""
    guest = Member("guest", party.party)
    async with open_channel(party.address("worker")) as channel:
        client = Client(party, channel)
        await client.launch(run, "spawns", guest, (guest, HOST))
        async for data in client.log(run, guest):
            if b"ready" in data:
                break
        return [int(pid) for pid in (client.folder(run, guest) / "pids").read_text().split()], client.watch


def _fork_server_of(party: WorkerParty) -> int:
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == party.pid:
                return int(entry.name)
    raise AssertionError("there is no fork server")


async def test_nothing_is_left_when_the_service_is_killed(lonely: WorkerParty, run: TaskRun):
    pids, _ = await _spawned(lonely, run)
    pids.append(_fork_server_of(lonely))
    lonely.stop(signal.SIGKILL)
    await eventually(lambda: not any(map(is_alive, pids)))


async def test_nothing_is_left_when_the_service_stops(lonely: WorkerParty, run: TaskRun):
    pids, _ = await _spawned(lonely, run)
    pids.append(_fork_server_of(lonely))
    assert lonely.stop() == 0
    assert not any(map(is_alive, pids))


async def test_a_dead_fork_server_ends_the_service_so_that_it_is_started_again(lonely: WorkerParty, run: TaskRun):
    pids, _ = await _spawned(lonely, run)
    os.kill(_fork_server_of(lonely), signal.SIGKILL)
    assert await asyncio.to_thread(lonely.wait) == 1
    assert not any(map(is_alive, pids))
    assert "the worker's fork server died" in (lonely.home / "logs" / "party.log").read_text()


async def test_after_a_restart_a_run_is_unknown_and_its_attempt_cannot_be_repeated(lonely: WorkerParty, run: TaskRun):
    await _spawned(lonely, run)
    lonely.stop(signal.SIGKILL)
    (lonely.home / "run" / "mailbox.sock").unlink(missing_ok=True)
    (lonely.home / "run" / "worker.sock").unlink(missing_ok=True)
    (lonely.home / "run" / "egress.sock").unlink(missing_ok=True)
    lonely.start()
    guest = Member("guest", lonely.party)
    async with open_channel(lonely.address("worker")) as channel:
        client = Client(lonely, channel)
        with pytest.raises(RpcError, match="was not started here"):
            await client.watch(run)
        await client.launch(run, "spawns", guest, (guest, HOST))
        report = await client.outcome(run)
    assert report.state == "lost"
    assert report.error.endswith("an earlier launcher ran this attempt and died")


@pytest.mark.parametrize("cores", [float("nan"), float("inf"), -1.0])
async def test_cores_that_are_no_number_are_refused(client: Client, cores: float) -> None:
    with pytest.raises(RpcError, match="is no number of cores") as told:
        await client.launch(TaskRun(JOB, "no-number", 1), "waits", cores=cores)
    assert told.value.code == "BAD_REQUEST"


async def test_an_offset_beyond_every_file_is_refused(client: Client) -> None:
    run = TaskRun(JOB, "beyond", 1)
    await client.launch(run, "keeps")
    assert (await client.outcome(run)).state == "success"
    with pytest.raises(RpcError, match="is no offset in a file") as told:
        await client.output(run, "notes.txt", 2**64 - 1)
    assert told.value.code == "BAD_REQUEST"


async def test_outputs_are_listed_and_read_once_the_task_has_ended(client: Client) -> None:
    run = TaskRun(JOB, "keeps", 1)
    await client.launch(run, "keeps")
    assert (await client.outcome(run)).state == "success"
    request = local_pb2.ListOutputsRequest(run=wire(run), member=str(GUEST))
    listed = await client.ask("ListOutputs", request, local_pb2.ListOutputsReply)
    assert [(file.name, file.size_bytes) for file in listed.files] == [("models/final.bin", 2**20), ("notes.txt", 5)]
    assert await client.output(run, "models/final.bin") == bytes(range(256)) * 4096
    assert await client.output(run, "notes.txt", 2) == b"tes"
    for name in ("link", "../result.json", ".hidden", "absent", "models"):
        with pytest.raises(RpcError, match="there is no output"):
            await client.output(run, name)


async def test_a_task_that_keeps_too_much_fails(client: Client) -> None:
    run = TaskRun(JOB, "keeps-many", 1)
    await client.launch(run, "keeps", files=1001)
    report = await client.outcome(run)
    assert report.state == "failed"
    assert "1003 outputs" in report.error


async def test_a_running_tasks_outputs_are_not_read(client: Client) -> None:
    run = TaskRun(JOB, "still-running", 1)
    await client.launch(run, "waits")
    with pytest.raises(RpcError, match="still runs") as told:
        await client.output(run, "notes.txt")
    assert told.value.code == "CONFLICT"
    await client.call("Stop", local_pb2.HaltRequest(run=wire(run)))


async def test_a_table_is_described_and_then_read_by_a_task(client: Client) -> None:
    folder = client.party.home / "data" / "tables"
    folder.mkdir(parents=True)
    (folder / "people.csv").write_text("age\n1\n2\n")
    request = local_pb2.DescribeTableRequest(name="people", path="people.csv")
    described = await client.ask("DescribeTable", request, local_pb2.DescribeTableReply)
    run = TaskRun(JOB, "reads", 1)
    await client.launch(run, "keeps", tables=f"[{described.table}]", table="people")
    report = await client.outcome(run)
    assert (report.state, report.result) == ("success", "2")
    (folder / "people.csv").write_text("age\n1\n2\n3\n")
    run = TaskRun(JOB, "reads-changed", 1)
    await client.launch(run, "keeps", tables=f"[{described.table}]", table="people")
    report = await client.outcome(run)
    assert report.state == "failed"
    assert "the file people.csv has changed since it was bound" in report.error
    outside = local_pb2.DescribeTableRequest(name="x", path="../../signing.key")
    with pytest.raises(RpcError, match="is not followed"):
        await client.ask("DescribeTable", outside, local_pb2.DescribeTableReply)
