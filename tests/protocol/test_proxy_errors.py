"""What a caller is told when a call ends at a proxy, and what the proxies write down."""

from __future__ import annotations

import re

import grpc
import pytest
from ports import free_port
from proxy_certificates import CertificateMaker
from proxy_echo import EchoServices, echoing
from proxy_party import DELIVER, SUPERVISE, ProxyHome, peer_of, refusal, running

from fedparty.rpc.catalogue import CATALOGUE
from fedparty.types import party_uri


@pytest.fixture
def guest() -> ProxyHome:
    return ProxyHome("10000", CertificateMaker())


@pytest.mark.parametrize("to", ["77", "flow_peer", "federation_peer", "flow_rest", "ingress", "010000", "", None])
async def test_unknown_party(guest: ProxyHome, to: str | None) -> None:
    async with running(guest), echoing(guest):
        text = await refusal(guest.call(to))
    if to == "77":
        assert text == "NOT_FOUND: [UNKNOWN_PARTY] 10000's proxy has no route to party 77"
    else:
        assert text == "NOT_FOUND: [UNKNOWN_PARTY] the call to 10000's proxy names no party in x-fedparty-to"


async def test_unreachable_party(guest: ProxyHome) -> None:
    port = free_port()
    away = peer_of("lab", "9999", port)
    nameless = peer_of("lab", "8888", port) | {"address": "no-such-host.invalid"}
    guest.variables["peers"] = [away, nameless]
    async with running(guest):
        assert await refusal(guest.call("9999")) == (
            f"UNAVAILABLE: [PEER_UNREACHABLE] 10000's proxy cannot reach party 9999 at 127.0.0.1:{port}: "
            "delayed_connect_error:_Connection_refused"
        )
        assert await refusal(guest.call("8888")) == (
            "UNAVAILABLE: [PEER_UNREACHABLE] 10000's proxy finds no address for party 8888: "
            "its host name is not known to DNS"
        )


async def test_a_peer_that_refuses_this_certificate(guest: ProxyHome) -> None:
    host = ProxyHome("9999", guest.maker)
    guest.leaf = CertificateMaker().party("10000")
    async with running(guest, host), echoing(host):
        text = await refusal(guest.call("9999"))
    assert text == (
        f"UNAVAILABLE: [PEER_TLS_REFUSED] the proxy of party 9999 at 127.0.0.1:{host.port} closed a new connection of "
        "10000's proxy unanswered: it refuses the certificate (its log says why: handshake refused), "
        "or was just stopped"
    )


async def test_a_connection_that_breaks_is_no_refusal(guest: ProxyHome) -> None:
    host = ProxyHome("9999", guest.maker)
    async with running(guest, host), echoing(host):
        await guest.call("9999")
        async with guest.channel() as channel:
            stream = channel.stream_stream(SUPERVISE)(metadata=[("x-fedparty-to", "9999")], timeout=10)
            await guest.until_active("cluster.9999.upstream_rq_active")
            await host.kill()
            text = await refusal(stream.read())
    assert text == (
        f"UNAVAILABLE: [CONNECTION_LOST] the connection of 10000's proxy to party 9999 at 127.0.0.1:{host.port} broke"
    )


async def test_services_behind_the_peer_that_are_down(guest: ProxyHome) -> None:
    host = ProxyHome("9999", guest.maker)
    async with running(guest, host):
        assert await refusal(guest.call("9999")) == (
            "UNAVAILABLE: [PEER_FLOW_DOWN] party 9999's flow does not answer its proxy"
        )
        assert await refusal(guest.call("9999", DELIVER)) == (
            "UNAVAILABLE: [PEER_MAILBOX_DOWN] party 9999's mailbox does not answer its proxy"
        )
        services = EchoServices(host)
        await services.start()
        await guest.call("9999")
        await guest.call("9999", DELIVER)
        await services.stop()
        assert "[PEER_FLOW_DOWN]" in await refusal(guest.call("9999"))


async def test_every_code_is_in_the_catalogue_with_its_status(guest: ProxyHome) -> None:
    guest.variables["exchange"] = {"address": "exchange.example", "port": 9371}
    texts = [guest.render(f"live/{name}.json") for name in ("lds", "rds_egress", "rds_ingress")]
    codes = {code for text in texts for code in re.findall(r'"\[([A-Z_]+)\]', text)}
    assert codes == {
        "UNKNOWN_PARTY", "WRONG_PARTY", "NOT_ALLOWED", "PEER_UNREACHABLE", "PEER_TLS_REFUSED", "CONNECTION_LOST",
        "PEER_FLOW_DOWN", "PEER_MAILBOX_DOWN",
    }  # fmt: skip
    assert codes <= CATALOGUE.keys()
    assert CATALOGUE["UNKNOWN_PARTY"].status is grpc.StatusCode.NOT_FOUND
    assert CATALOGUE["WRONG_PARTY"].status is CATALOGUE["NOT_ALLOWED"].status is grpc.StatusCode.PERMISSION_DENIED
    for code in codes - {"UNKNOWN_PARTY", "WRONG_PARTY", "NOT_ALLOWED"}:
        assert CATALOGUE[code].status is grpc.StatusCode.UNAVAILABLE


async def test_access_logs_of_both_sides_name_job_and_peer(guest: ProxyHome) -> None:
    host = ProxyHome("9999", guest.maker)
    job = "10000-01JD3M0000000000000000000Z"
    async with running(guest, host), echoing(host):
        await guest.call("9999", DELIVER, x_fedparty_job=job)
        await refusal(guest.call("9999", "/not/allowed", x_fedparty_job="x" * 500))
        out = await guest.logged(direction="egress", job=job)
        into = await host.logged(direction="ingress", job=job)
        refused = await host.logged(direction="ingress", job="x" * 64)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", out["time"])
    common = {"service": "proxy", "level": "INFO", "method": DELIVER, "grpc_status": "OK", "response_flags": "-"}
    assert common.items() <= out.items()
    assert common.items() <= into.items()
    assert (out["party"], out["peer"]) == ("10000", party_uri("lab", "9999"))
    assert (into["party"], into["peer"]) == ("9999", party_uri("lab", "10000"))
    assert all(isinstance(out[name], int) for name in ("bytes_in", "bytes_out", "duration_ms"))
    assert refused["grpc_status"] == "PERMISSION_DENIED"
    assert refused["detail"] == "rbac_access_denied_matched_policy[none]"


async def test_a_port_that_is_taken_is_told(guest: ProxyHome) -> None:
    second = ProxyHome("9999", guest.maker)
    second.port = guest.port
    async with running(guest), running(second):
        assert await second.counter("listener_manager.lds.update_rejected") == 1
        line = await second.logged(level="warning")
    assert f"cannot bind '127.0.0.1:{guest.port}': Address already in use" in str(line)


async def test_sockets_are_private_and_survive_a_kill(guest: ProxyHome) -> None:
    async with running(guest), echoing(guest):
        for name in ("egress", "envoy_admin"):
            assert guest.socket_mode(name) == 0o600
        await guest.kill()
        await guest.start()
        await guest.call("10000")


async def test_metrics_are_on_the_admin_socket(guest: ProxyHome) -> None:
    async with running(guest), echoing(guest):
        await guest.call("10000")
        metrics = await guest.admin("/stats/prometheus")
    assert 'envoy_cluster_upstream_rq_total{envoy_cluster_name="10000"} 1' in metrics


async def test_draining_leaves_open_streams_alone(guest: ProxyHome) -> None:
    host = ProxyHome("9999", guest.maker)
    async with running(guest, host), echoing(host), guest.channel() as channel:
        stream = channel.stream_stream(SUPERVISE)(metadata=[("x-fedparty-to", "9999")], timeout=20)
        await stream.write(b"before")
        assert await stream.read() == b"before"
        assert "OK" in await host.drain()
        await stream.write(b"after")
        assert await stream.read() == b"after"
        await stream.done_writing()
