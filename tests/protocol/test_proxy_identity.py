"""Who gets in, as whom, and to what."""

from __future__ import annotations

import datetime
import re
import socket
import ssl

import pytest
from proxy_certificates import DAY, DOCUMENT_SIGNING, CertificateMaker, Leaf
from proxy_echo import echoing
from proxy_party import DELIVER, PING, ProxyHome, call, knocking, refusal, running

from fedparty.rpc.v1 import peer_pb2
from fedparty.types import party_uri

MINUTE = datetime.timedelta(minutes=1)
GUEST = party_uri("lab", "10000")


def strangers(maker: CertificateMaker) -> dict[str, tuple[Leaf | None, str]]:
    """Return certificates that must be refused, each with what the proxy's log says about it."""
    revoked = maker.party("10000")
    maker.revoked.append(revoked.serial)
    return {
        "none": (None, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        "foreign CA": (CertificateMaker().party("10000"), "unable_to_get_local_issuer_certificate"),
        "expired": (maker.leaf([GUEST], [], starts=-DAY, ends=-MINUTE), "certificate_has_expired"),
        "not yet valid": (maker.leaf([GUEST], [], starts=MINUTE), "certificate_is_not_yet_valid"),
        "revoked": (revoked, "certificate_revoked"),
        "other federation": (maker.leaf([party_uri("lab2", "10000")], []), "SAN_matcher"),
        "dots are dots": (maker.leaf(["spiffe://labXinternal/party/10000"], []), "SAN_matcher"),
        "exchange": (maker.leaf([party_uri("lab", "exchange")], []), "SAN_matcher"),
        "no party id": (maker.leaf([party_uri("lab", "10000/x")], []), "SAN_matcher"),
        "host name only": (maker.leaf([], ["p10000.lab.internal"]), "SAN_matcher"),
        "for signing": (maker.leaf([GUEST], [], usage=DOCUMENT_SIGNING), "unsupported_certificate_purpose"),
    }


async def test_refuses_every_wrong_certificate_and_logs_why() -> None:
    maker = CertificateMaker()
    wrong = strangers(maker)
    home = ProxyHome("9999", maker)
    async with running(home), echoing(home):
        for name, (leaf, _) in wrong.items():
            async with knocking(home, leaf) as channel:
                assert (await refusal(call(channel, PING, "9999"))).startswith("UNAVAILABLE"), name
        for name, (leaf, reason) in wrong.items():
            line = await home.logged(message="handshake refused", level="WARNING", peer_serial=leaf and leaf.serial_hex)
            assert reason in line["reason"], name
            assert line["remote"].startswith("127.0.0.1:")


async def test_refuses_an_egress_that_finds_a_wrong_certificate() -> None:
    maker = CertificateMaker()
    guest, host = ProxyHome("10000", maker), ProxyHome("9999", maker)
    host.leaf = CertificateMaker().party("9999")
    async with running(guest, host), echoing(host):
        text = await refusal(guest.call("9999"))
    assert text.startswith("UNAVAILABLE: [PEER_TLS_REFUSED] 10000's proxy and the proxy of party 9999 at 127.0.0.1:")
    assert "CERTIFICATE_VERIFY_FAILED" in text


async def test_an_address_that_leads_to_another_party_is_refused() -> None:
    maker = CertificateMaker()
    guest, host = ProxyHome("10000", maker), ProxyHome("9999", maker)
    astray = {"id": "8888", "host_name": "p8888.lab.internal", "uri": party_uri("lab", "8888")}
    guest.variables["peers"] = [host.as_peer | astray]
    async with running(guest, host), echoing(host):
        text = await refusal(guest.call("8888"))
    assert text.startswith("UNAVAILABLE: [PEER_TLS_REFUSED]")
    assert party_uri("lab", "9999") in text


async def test_an_outdated_revocation_list_refuses_everybody() -> None:
    maker = CertificateMaker()
    home = ProxyHome("9999", maker)
    home.variables["crl_pem"] = maker.crl_pem(next_update=-MINUTE)
    async with running(home), echoing(home):
        async with knocking(home, maker.party("10000")) as channel:
            await refusal(call(channel, PING, "9999"))
        assert "CRL_has_expired" in (await home.logged(message="handshake refused"))["reason"]


async def test_only_tls_1_3_is_spoken() -> None:
    maker = CertificateMaker()
    home = ProxyHome("9999", maker)
    context = ssl.create_default_context(cadata=maker.ca_pem)
    async with running(home):
        for port in (home.port, home.rest_port):
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as wrapped,
            ):
                assert wrapped.version() == "TLSv1.3"
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        for port in (home.port, home.rest_port):
            with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname="localhost")


async def test_forged_headers_are_gone_and_the_caller_is_named() -> None:
    maker = CertificateMaker()
    guest, host = ProxyHome("10000", maker), ProxyHome("9999", maker)
    forged = {
        f"x_fedparty_{name}": "forged"
        for name in ("", "from", "serial", "proxy", "host", "t", "tox", "j", "jo", "jobs", "jab", "tt", "other")
    } | {"x_envoy_retry_on": "5xx", "x_envoy_upstream_rq_timeout_ms": "1"}
    async with running(guest, host), echoing(host):
        for path in (PING, DELIVER):
            seen = await guest.call("9999", path, x_fedparty_job="10000-J", own="kept", **forged)
            ours = {name: value for name, value in seen.items() if name.startswith(("x-fedparty", "x-envoy"))}
            assert ours == {
                "x-fedparty-to": "9999",
                "x-fedparty-job": "10000-J",
                "x-fedparty-from": GUEST,
                "x-fedparty-serial": guest.leaf.serial_hex,
                "x-fedparty-proxy": "secret-of-9999",
            }
            assert seen["own"] == "kept"


async def test_a_party_calls_itself_through_its_own_proxy() -> None:
    home = ProxyHome("9999", CertificateMaker())
    async with running(home), echoing(home):
        assert (await home.call("9999"))["x-fedparty-from"] == party_uri("lab", "9999")


async def test_a_certificate_with_two_parties_is_nobody() -> None:
    maker = CertificateMaker()
    home = ProxyHome("9999", maker)
    twofold = maker.leaf([GUEST, party_uri("lab", "9999")], [])
    async with running(home), echoing(home), knocking(home, twofold) as channel:
        text = await refusal(call(channel, PING, "9999"))
    assert text == (
        f"PERMISSION_DENIED: [NOT_ALLOWED] 9999's proxy does not let {GUEST},{party_uri('lab', '9999')} call {PING}"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/fedparty.v1.local.Mailbox/Register",
        "/fedparty.v1.peer.Coordination/Unknown",
        "/fedparty.v1.peer.Coordination/../local.Worker/Start",
        f"{PING}/../../fedparty.v1.local.Worker/Start",
        f"{PING}/",
        f"{PING}?x=1",
        f"/{PING}",
        "/fedparty.v1.peer.Coordination/%50ing",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_only_the_exact_paths_cross(path: str) -> None:
    maker = CertificateMaker()
    home = ProxyHome("9999", maker)
    async with running(home), echoing(home), knocking(home, maker.party("10000")) as channel:
        text = await refusal(call(channel, path, "9999"))
    assert text == f"PERMISSION_DENIED: [NOT_ALLOWED] 9999's proxy does not let {GUEST} call {path}"


async def test_every_rpc_of_the_contract_crosses() -> None:
    maker = CertificateMaker()
    home = ProxyHome("9999", maker)
    services = peer_pb2.DESCRIPTOR.services_by_name.values()
    paths = [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]
    assert PING in paths
    listeners = home.render("live/lds.json")
    assert sorted(set(re.findall(r"/fedparty\.v1\.[\w.]+/\w+", listeners))) == sorted(paths)


@pytest.mark.parametrize("to", ["10000", "99990", "", None])
async def test_a_call_for_another_party_is_refused(to: str | None) -> None:
    maker = CertificateMaker()
    home = ProxyHome("9999", maker)
    async with running(home), echoing(home), knocking(home, maker.party("10000")) as channel:
        text = await refusal(call(channel, PING, to))
    assert text == "PERMISSION_DENIED: [WRONG_PARTY] this is the proxy of party 9999, and the call is for another one"
