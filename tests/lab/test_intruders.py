"""Parties that try what they may not, with real certificates, against real parties."""

from __future__ import annotations

import base64
import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from laboratory import SUCCESS, Laboratory, laboratory
from ulid import ULID

from fedparty.pki.authority import Authority
from fedparty.rpc.v1 import local_pb2, peer_pb2
from fedparty.types import JobId, Member, PartyId, TaskRun, party_uri

FEDERATION = "fedparty"
PEER = "/fedparty.v1.peer."


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("lab")
    with laboratory(folder, parties=("10000", "9999", "9998"), options={"max_connection_age_s": "2"}) as lab:
        lab.up("--no-verify")
        yield lab


def dial(lab: Laboratory, to: str, key: bytes, chain: bytes | None) -> grpc.Channel:
    """Connect to a party's ingress with a certificate of one's own."""
    authority = (lab.bundle(to) / "ca" / "ca.crt").read_bytes()
    credentials = grpc.ssl_channel_credentials(authority, key if chain else None, chain)
    name = f"p{to}.{FEDERATION}.internal"
    options = [("grpc.ssl_target_name_override", name), ("grpc.enable_retries", 0)]
    return grpc.secure_channel(f"127.0.0.1:{lab.ports[to][0]}", credentials, options)


def dial_as(lab: Laboratory, party: str, to: str) -> grpc.Channel:
    """Connect to a party's ingress with another party's own key and certificate."""
    key = (lab.bundle(party) / "proxy" / "tls.key").read_bytes()
    identity = json.loads((lab.bundle(party) / "proxy" / "live" / "sds_identity.json").read_text())
    chain = identity["resources"][0]["tls_certificate"]["certificate_chain"]["inline_string"].encode()
    return dial(lab, to, key, chain)


def call(channel: grpc.Channel, path: str, request: bytes = b"", **metadata: str) -> bytes:
    headers = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    return channel.unary_unary(path)(request, metadata=headers, timeout=10)


def refusal(channel: grpc.Channel, path: str, request: bytes = b"", **metadata: str) -> grpc.RpcError:
    with channel, pytest.raises(grpc.RpcError) as refused:
        call(channel, path, request, **metadata)
    return refused.value


def run_of(party: str) -> TaskRun:
    return TaskRun(JobId(f"{party}-{ULID()}"), "sum", 1)


def prepare(run: TaskRun) -> bytes:
    description = {
        "name": "forged",
        "roles": {"guest": ["10000"], "host": ["9999"]},
        "tasks": {"sum": {"component": "secure_sum"}},
    }
    return peer_pb2.PrepareRequest(
        run=peer_pb2.RunId(job=run.job, task=run.task, attempt=run.attempt),
        description=json.dumps(description),
        protocol="1.0",
        remaining_s=10,
    ).SerializeToString()


def test_an_honest_party_is_answered(lab: Laboratory) -> None:
    with dial_as(lab, "9998", "9999") as channel:
        reply = call(channel, PEER + "Coordination/Ping", x_fedparty_to="9999")
    assert peer_pb2.PingReply.FromString(reply).party == "9999"


@pytest.mark.parametrize("forged", ["x-fedparty-from", "X-Fedparty-From"])
def test_a_forged_identity_is_replaced(lab: Laboratory, forged: str) -> None:
    uri = f"spiffe://{FEDERATION}.internal/party/10000"
    channel = dial_as(lab, "9998", "9999")
    refused = refusal(
        channel,
        PEER + "Coordination/Prepare",
        prepare(run_of("10000")),
        x_fedparty_to="9999",
        **{forged.lower().replace("-", "_"): uri},
    )
    assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "9998" in refused.details()


@pytest.mark.parametrize(
    "path",
    [
        "/fedparty.v1.local.Mailbox/Register",
        "/fedparty.v1.local.Worker/Start",
        "/fedparty.v1.peer.Coordination/../../fedparty.v1.local.Mailbox/Register",
        "/fedparty.v1.peer.Mailbox/Deliver/",
        "/v1/jobs",
    ],
)
def test_other_rpcs_do_not_cross(lab: Laboratory, path: str) -> None:
    refused = refusal(dial_as(lab, "9998", "9999"), path, x_fedparty_to="9999")
    assert refused.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)


def foreign_identity(lab: Laboratory, tmp_path: Path) -> tuple[bytes, bytes]:
    """A certificate of another CA that claims to be party 10000."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = Authority.open_or_create(tmp_path / "ca", FEDERATION)
    return pem_of(key), authority.issue_tls("10000", key.public_key())


def expired_identity(lab: Laboratory, tmp_path: Path) -> tuple[bytes, bytes]:
    """A certificate of the right CA that has ended."""
    key = ec.generate_private_key(ec.SECP256R1())
    past = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=-2)
    authority = Authority.open(lab.outputs / "ca", lifetime_days=1, clock=lambda: past)
    return pem_of(key), authority.issue_tls("10000", key.public_key())


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("identity", [foreign_identity, expired_identity])
def test_other_certificates_are_refused(lab: Laboratory, tmp_path: Path, identity: object) -> None:
    key, chain = identity(lab, tmp_path)  # type: ignore[operator]
    refused = refusal(dial(lab, "9999", key, chain), PEER + "Coordination/Ping", x_fedparty_to="9999")
    assert refused.code() is grpc.StatusCode.UNAVAILABLE


def test_no_certificate_is_refused(lab: Laboratory) -> None:
    refused = refusal(dial(lab, "9999", b"", None), PEER + "Coordination/Ping", x_fedparty_to="9999")
    assert refused.code() is grpc.StatusCode.UNAVAILABLE


def forged_token(lab: Laboratory, run: TaskRun, member: Member) -> str:
    """A task token in `member`'s name, signed with party 9998's own key and certificate."""
    signing = lab.bundle("9998") / "flow"
    certificate = x509.load_pem_x509_certificate((signing / "live" / "signing.crt").read_bytes())
    claims = {
        "iss": party_uri(FEDERATION, member.party),
        "aud": "task",
        "iat": int(time.time()),
        "exp": int(time.time()) + 60,
        "job": run.job,
        "task": run.task,
        "attempt": run.attempt,
        "role": member.role,
    }
    chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
    return jwt.encode(claims, (signing / "signing.key").read_text(), algorithm="ES256", headers={"x5c": chain})


def running_job(lab: Laboratory) -> tuple[object, TaskRun]:
    """Start a long toy job of 10000 and 9999; return it when both sides exchange shares."""
    toy = lab.start_toy("10000", "9999", "1", "--data-num", "3000000", "--partition", "60")
    assert toy.stdout is not None
    for line in toy.stdout:
        if "share one random part data to host" in line:
            break
    jobs = lab.home("9999") / "data" / "worker" / "jobs"
    newest = max(jobs.iterdir(), key=lambda folder: folder.name)
    return toy, TaskRun(JobId(newest.name), "sum", 1)


def test_a_third_party_can_neither_write_nor_read_in_a_job(lab: Laboratory) -> None:
    toy, run = running_job(lab)
    guest, host = Member("guest", PartyId("10000")), Member("host", PartyId("9999"))
    try:
        for claimed in (guest, Member("guest", PartyId("9998"))):
            name = peer_pb2.ObjectName(
                job=run.job, task=run.task, attempt=1, tag="canary", sender=str(claimed), receiver=str(host)
            )
            header = peer_pb2.DeliverHeader(
                name=name, size_bytes=0, encoding="bytes", token=forged_token(lab, run, claimed)
            ).SerializeToString()
            with dial_as(lab, "9998", "9999") as channel, pytest.raises(grpc.RpcError) as refused:
                channel.stream_unary(PEER + "Mailbox/Deliver")(
                    iter([header, peer_pb2.DeliverTrailer().SerializeToString()]),
                    metadata=[("x-fedparty-to", "9999")],
                    timeout=10,
                )
            assert refused.value.code() in (
                grpc.StatusCode.PERMISSION_DENIED,
                grpc.StatusCode.UNAUTHENTICATED,
            ), refused.value

        socket = (lab.home("9999") / "run").resolve() / "federation-local.sock"
        request = local_pb2.ReceiveRequest(
            name=peer_pb2.ObjectName(
                job=run.job, task=run.task, attempt=1, tag="share.0", sender=str(guest), receiver=str(host)
            )
        ).SerializeToString()
        metadata = [("authorization", f"Bearer {forged_token(lab, run, host)}")]
        with grpc.insecure_channel(f"unix:{socket}") as channel, pytest.raises(grpc.RpcError) as refused:
            next(channel.unary_stream("/fedparty.v1.local.Mailbox/Receive")(request, metadata=metadata, timeout=10))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, refused.value

        inner = (lab.home("9999") / "run").resolve() / "flow-peer.sock"
        forged = {"x_fedparty_from": f"spiffe://{FEDERATION}.internal/party/10000", "x_fedparty_to": "9999"}
        refused_inside = refusal(
            grpc.insecure_channel(f"unix:{inner}"), PEER + "Coordination/Prepare", prepare(run_of("10000")), **forged
        )
        assert refused_inside.code() is grpc.StatusCode.PERMISSION_DENIED
    finally:
        output, _ = toy.communicate(timeout=60)  # type: ignore[attr-defined]
    assert "success to calculate secure_sum, it is 6000000.0" in output


def test_a_revoked_party_is_cut_off_and_renewed_comes_back(lab: Laboratory) -> None:
    before = lab.pids()
    assert lab.toy("10000", "9998", "1").returncode == 0
    revoked = lab.pki("revoke", "9998")
    assert revoked.returncode == 0, revoked.stdout
    done = lab.toy("10000", "9998", "1", "--timeout", "6")
    assert done.returncode != 0
    assert "9998" in done.stdout
    assert SUCCESS in lab.toy("10000", "9999", "1").stdout
    renewed = lab.pki("renew", "9998")
    assert renewed.returncode == 0, renewed.stdout
    ends_at = time.monotonic() + 15  # connections opened with the revoked certificate last max_connection_age_s
    back = lab.toy("10000", "9998", "1")
    while back.returncode != 0 and time.monotonic() < ends_at:
        back = lab.toy("10000", "9998", "1")
    assert SUCCESS in back.stdout, back.stdout
    assert lab.pids() == before
