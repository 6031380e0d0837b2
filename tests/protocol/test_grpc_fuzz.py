"""The gRPC services against random bytes and against well-formed lies: about jobs, attempts, roles, who calls.

Always an answer, or an error of the catalogue with a reason; never an unforeseen one; the service works afterwards.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from flow_party import FEDERATION, description
from flow_thread import FlowThread
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from worker_party import WorkerParty

from fedparty.pki.authority import Authority
from fedparty.rpc import catalogue
from fedparty.rpc.channels import MESSAGE_LIMIT_BYTES
from fedparty.rpc.v1 import local_pb2, peer_pb2
from fedparty.types import Member, PartyId, TaskRun, parse_job_id, party_uri

JOB, OTHER_JOB, FOREIGN_JOB = (
    f"{party}-01JD3M0000000000000000000{n}" for n, party in enumerate(["10000", "10000", "9998"])
)
RUN = TaskRun(parse_job_id(JOB), "sum", 1)
GUEST, HOST = Member("guest", PartyId("10000")), Member("host", PartyId("9999"))
STREAM_S, CALL_S = 0.3, 15.0

Metadata = tuple[tuple[str, str], ...]

_DESCRIPTION = json.dumps(description("hang", cores=0.1))
_STRINGS: Mapping[str, list[str]] = {
    "job": [JOB, OTHER_JOB, FOREIGN_JOB, "10000-x"],
    "task": ["sum", "other", "../sum"],
    "description": [_DESCRIPTION, "{}", "[" * 5000, _DESCRIPTION.replace("10000", "9998")],
    "protocol": ["1.0", "1.7", "2.0"],
    "state": ["success", "failed", "running", "lost"],
    "voucher": ["", "x.y.z"],
    "member": [str(HOST), str(GUEST), "host:9998", "host"],
    "members": [str(HOST), str(GUEST), ":"],
    "sender": [str(GUEST), str(HOST)],
    "receiver": [str(HOST), str(GUEST)],
    "component": ["no_such", "secure_sum"],
    "parameters": ["{}", "[]", '{"data_num": -1}'],
    "tables": ["[]", "{}", '[{"name": 1}]'],
    "path": ["x.csv", "x.csv\0", "../../etc/passwd", "/etc/passwd"],
    "name": ["x", "../x"],
    "token": ["x.y.z"],
}
_NUMBERS = st.sampled_from([0, 1, 2, 7, 2**31, 2**32 - 1])
_BIG_NUMBERS = _NUMBERS | st.sampled_from([2**40, 2**63, 2**64 - 1])
_FLOATS = st.sampled_from([0.1, 30.0, 0.0, -1.0, 1e300, math.inf, math.nan]) | st.floats()


@dataclass(frozen=True)
class Service:
    """A service under fire: where it is, what it takes, and who may call it."""

    address: str
    name: str
    methods: Mapping[str, type[Message]]
    streams: frozenset[str]
    callers: Callable[[], st.SearchStrategy[Metadata]]
    works: Callable[[], bool]


def _of_field(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kinds = FieldDescriptor
    if field.message_type is not None:
        return _messages(field.message_type._concrete_class)
    if field.type == kinds.TYPE_STRING:
        return st.sampled_from(_STRINGS.get(field.name, ["x"])) | st.text(st.characters(codec="utf-8"), max_size=30)
    if field.type == kinds.TYPE_BYTES:
        return st.binary(max_size=50)
    if field.type == kinds.TYPE_BOOL:
        return st.booleans()
    if field.type == kinds.TYPE_DOUBLE:
        return st.sampled_from([0.0, 0.0, 1.0]) if field.name == "sent_at" else _FLOATS
    return _NUMBERS if field.type == kinds.TYPE_UINT32 else _BIG_NUMBERS


def _messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Return well-formed messages of a kind, whatever they say."""
    fields = {
        field.name: st.lists(_of_field(field), max_size=3) if field.is_repeated else st.none() | _of_field(field)
        for field in kind.DESCRIPTOR.fields
    }
    return st.fixed_dictionaries(fields).map(
        lambda said: kind(**{key: value for key, value in said.items() if value is not None})
    )


def _bytes_of(kind: type[Message]) -> st.SearchStrategy[bytes]:
    """Return messages, messages with a bit that is wrong, messages that break off, and noise."""
    whole = _messages(kind).map(lambda message: message.SerializeToString())
    cut = st.tuples(whole, st.integers(0, 200)).map(lambda it: it[0][: it[1]])
    flipped = st.tuples(whole, st.integers(0, 2000)).map(_flipped)
    return whole | whole | cut | flipped | st.binary(max_size=300)


def _flipped(it: tuple[bytes, int]) -> bytes:
    data, bit = bytearray(it[0]), it[1]
    if data:
        data[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(data)


def _ask(channel: grpc.Channel, service: Service, method: str, requests: list[bytes], metadata: Metadata) -> None:
    """Call, and make sure that the answer is one, or an error that is foreseen."""
    exc = _error_of(channel, service, method, requests, metadata)
    if exc is None:
        return
    error = catalogue.from_rpc_error(exc)
    assert error.code in catalogue.CATALOGUE, exc
    assert error.code != "INTERNAL", exc
    assert exc.code() not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), exc
    assert error.message, exc


def _error_of(channel: grpc.Channel, service: Service, method: str, requests: list[bytes], metadata: Metadata) -> Any:
    """Return what a call ends with, unless it is answered, or is a stream that waits."""
    call = channel.stream_stream(f"/{service.name}/{method}", None, None)
    is_stream = method in service.streams
    answers = call(iter(requests), metadata=metadata, timeout=STREAM_S if is_stream else CALL_S)
    try:
        for _ in answers:
            if is_stream:
                break
    except grpc.RpcError as exc:
        has_waited = is_stream and answers.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return None if has_waited else exc
    finally:
        answers.cancel()
    return None


def _fuzz(service: Service, examples: int, *, is_repeatable: bool) -> None:
    with grpc.insecure_channel(service.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        for method in service.methods:
            _fuzz_method(channel, service, method, examples, is_repeatable=is_repeatable)
            _ask(channel, service, method, [b"\n" * (MESSAGE_LIMIT_BYTES + 1)], ())
    assert service.works()


def _fuzz_method(channel: grpc.Channel, service: Service, method: str, examples: int, *, is_repeatable: bool) -> None:
    messages = _bytes_of(service.methods[method])

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=is_repeatable,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[*HealthCheck],
    )
    @given(
        requests=st.lists(messages, min_size=1, max_size=3 if method == "Deliver" else 1),
        metadata=service.callers(),
    )
    def answered(requests: list[bytes], metadata: Metadata) -> None:
        _ask(channel, service, method, requests, metadata)

    answered()


@pytest.fixture(scope="module")
def flows() -> Iterator[FlowThread]:
    with FlowThread() as running:
        yield running


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerParty]:
    with tempfile.TemporaryDirectory(prefix="fp-fuzz-", dir="/tmp") as folder:
        party = WorkerParty(Path(folder), "9999", Authority.open_or_create(Path(folder) / "ca", FEDERATION, 30))
        party.write()
        tables = party.home / "data" / "tables"
        tables.mkdir(parents=True)
        (tables / "x.csv").write_text("id,a\n1,2\n")
        party.start()
        yield party
        assert party.stop() == 0


def _through_the_proxy(flows: FlowThread) -> st.SearchStrategy[Metadata]:
    """Return who calls: another party as it is, or one that lies about that."""
    host = flows.lab.parties["9999"]
    honest = flows.party.identity_at(host)
    said = dict(honest)
    lies = [
        (),
        honest[:2],
        (*honest, ("x-fedparty-from", party_uri(FEDERATION, "9998"))),
        tuple((said | {"x-fedparty-from": party_uri(FEDERATION, "9998")}).items()),
        tuple((said | {"x-fedparty-from": "spiffe://other.internal/party/10000"}).items()),
        tuple((said | {"x-fedparty-proxy": "guess"}).items()),
        tuple((said | {"x-fedparty-serial": ""}).items()),
    ]
    return st.sampled_from([honest, honest, honest, *lies])


def _with_tokens(signer: Any, scope: str) -> st.SearchStrategy[Metadata]:
    """Return who calls: the own flow, a task, or somebody with a token for something else."""
    right = signer.service(scope)
    tokens = [
        right,
        right,
        right,
        signer.task(RUN, HOST, 600),
        signer.service("other"),
        right[:-4] + "AAAA",
        "x.y.z",
        "",
    ]
    return st.sampled_from([(), *((("authorization", f"Bearer {token}"),) for token in tokens)])


def _coordination(flows: FlowThread) -> Service:
    methods = {
        "Prepare": peer_pb2.PrepareRequest,
        "Queue": peer_pb2.PrepareRequest,
        "Start": peer_pb2.StartRequest,
        "Supervise": peer_pb2.SuperviseRequest,
        "Stop": peer_pb2.StopRequest,
        "Ping": peer_pb2.PingRequest,
    }
    return Service(
        flows.lab.parties["9999"].settings.peer,
        "fedparty.v1.peer.Coordination",
        methods,
        frozenset({"Queue", "Supervise"}),
        lambda: _through_the_proxy(flows),
        flows.works,
    )


def _peer_mailbox(flows: FlowThread) -> Service:
    address = f"unix:{flows.lab.parties['9999'].home}/run/federation-peer.sock"
    methods = {"Deliver": peer_pb2.DeliverHeader}
    callers = lambda: _through_the_proxy(flows)  # noqa: E731
    return Service(address, "fedparty.v1.peer.Mailbox", methods, frozenset(), callers, flows.works)


def _local_mailbox(flows: FlowThread) -> Service:
    host = flows.lab.parties["9999"]
    methods = {
        "Register": local_pb2.RegisterRequest,
        "Close": local_pb2.CloseRequest,
        "Receive": local_pb2.ReceiveRequest,
        "Stats": local_pb2.StatsRequest,
    }
    callers = lambda: _with_tokens(host.signer(), "mailbox")  # noqa: E731
    return Service(
        host.settings.mailbox, "fedparty.v1.local.Mailbox", methods, frozenset({"Receive"}), callers, flows.works
    )


def _worker(worker: WorkerParty) -> Service:
    methods = {
        "Start": local_pb2.LaunchRequest,
        "Stop": local_pb2.HaltRequest,
        "Watch": local_pb2.WatchRequest,
        "ReadLog": local_pb2.ReadLogRequest,
        "ReadMetrics": local_pb2.ReadLogRequest,
        "Describe": local_pb2.DescribeRequest,
        "ListOutputs": local_pb2.ListOutputsRequest,
        "ReadOutput": local_pb2.ReadOutputRequest,
        "DescribeTable": local_pb2.DescribeTableRequest,
        "Forget": local_pb2.ForgetRequest,
    }
    streams = frozenset({"Watch", "ReadLog", "ReadMetrics", "ReadOutput"})
    callers = lambda: _with_tokens(worker.signer(), "worker")  # noqa: E731

    def works() -> bool:
        with grpc.insecure_channel(worker.address("worker")) as channel:
            token = worker.signer().service("worker")
            ask = channel.unary_unary("/fedparty.v1.local.Worker/Describe", None, local_pb2.DescribeReply.FromString)
            return bool(ask(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=CALL_S).cores)

    return Service(worker.address("worker"), "fedparty.v1.local.Worker", methods, streams, callers, works)


EXAMPLES, MATRIX_EXAMPLES = 25, 1500


def test_coordination_bears_everything(flows: FlowThread) -> None:
    _fuzz(_coordination(flows), EXAMPLES, is_repeatable=True)


def test_the_mailbox_bears_everything_from_other_parties(flows: FlowThread) -> None:
    _fuzz(_peer_mailbox(flows), EXAMPLES, is_repeatable=True)


def test_the_mailbox_bears_everything_from_its_own(flows: FlowThread) -> None:
    _fuzz(_local_mailbox(flows), EXAMPLES, is_repeatable=True)


def test_the_worker_bears_everything(worker: WorkerParty) -> None:
    _fuzz(_worker(worker), EXAMPLES, is_repeatable=True)


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("service", [_coordination, _peer_mailbox, _local_mailbox])
def test_flow_and_mailbox_bear_everything_at_length(
    flows: FlowThread, service: Callable[[FlowThread], Service]
) -> None:
    _fuzz(service(flows), MATRIX_EXAMPLES, is_repeatable=False)


@pytest.mark.matrix
@pytest.mark.timeout(1200)
def test_the_worker_bears_everything_at_length(worker: WorkerParty) -> None:
    _fuzz(_worker(worker), MATRIX_EXAMPLES, is_repeatable=False)
