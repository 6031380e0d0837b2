"""The hop of each failure, read from what real proxies say."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from ports import free_port
from proxy_certificates import DAY, CertificateMaker
from proxy_echo import echoing
from proxy_party import ProxyHome, peer_of, refusal, running

from fedparty.flow.probe.hops import Fault, fault_of
from fedparty.rpc import catalogue
from fedparty.types import PartyId, party_host_name, party_uri

Prepare = Callable[[ProxyHome, ProxyHome], None]


async def fault(guest: ProxyHome, to: str) -> Fault:
    coded = re.fullmatch(r"\w+: \[(\w+)\] (.*)", await refusal(guest.call(to)), re.DOTALL)
    assert coded
    return fault_of(catalogue.error(coded[1], coded[2]))


def pair() -> tuple[ProxyHome, ProxyHome]:
    maker = CertificateMaker()
    return ProxyHome("10000", maker), ProxyHome("9999", maker)


def foreign(guest: ProxyHome, _host: ProxyHome) -> None:
    guest.leaf = CertificateMaker().party("10000")


def foreign_peer(_guest: ProxyHome, host: ProxyHome) -> None:
    host.leaf = CertificateMaker().party("9999")


def expired_peer(_guest: ProxyHome, host: ProxyHome) -> None:
    uris, names = [party_uri("lab", "9999")], [party_host_name("lab", PartyId("9999"))]
    host.leaf = host.maker.leaf(uris, names, starts=-2 * DAY, ends=-DAY)


def revoked_peer(guest: ProxyHome, host: ProxyHome) -> None:
    guest.maker.revoked.append(host.leaf.serial)
    guest.variables["crl_pem"] = guest.maker.crl_pem()


def another_party(_guest: ProxyHome, host: ProxyHome) -> None:
    host.leaf = host.maker.party("9998")


@pytest.mark.parametrize(
    ("prepare", "hop", "at"),
    [
        (foreign, "tls", "peer"),
        (foreign_peer, "tls", "peer"),
        (expired_peer, "tls", "peer"),
        (revoked_peer, "tls", "peer"),
        (another_party, "route", "own"),
    ],
)
async def test_a_certificate_that_is_refused(prepare: Prepare, hop: str, at: str) -> None:
    guest, host = pair()
    prepare(guest, host)
    async with running(guest, host), echoing(host):
        assert await fault(guest, "9999") == Fault(hop, at, f"127.0.0.1:{host.port}")


async def test_ways_that_lead_nowhere() -> None:
    guest, _ = pair()
    port = free_port()
    nameless = peer_of("lab", "8888", port) | {"address": "no-such-host.invalid"}
    guest.variables["peers"] = [peer_of("lab", "9999", port), nameless]
    async with running(guest):
        assert await fault(guest, "77") == Fault("route", "own")
        assert await fault(guest, "8888") == Fault("dns", "own")
        assert await fault(guest, "9999") == Fault("tcp", "peer", f"127.0.0.1:{port}")


async def test_a_peer_whose_flow_is_down() -> None:
    guest, host = pair()
    async with running(guest, host):
        assert await fault(guest, "9999") == Fault("flow", "peer")


async def test_before_at_and_behind_an_exchange() -> None:
    guest, host = pair()
    exchange = ProxyHome("exchange", guest.maker)
    exchange.variables["peers"] = [guest.as_peer, host.as_peer]
    for home in (guest, host):
        home.variables |= {"peers": [], "exchange": {"address": "127.0.0.1", "port": exchange.port}}
    met_at = f"127.0.0.1:{exchange.port}"
    async with running(exchange, guest, host), echoing(guest, host):
        unknown = await fault(guest, "77")
        assert (unknown.hop, unknown.at) == ("route", "exchange")
        await host.kill()
        assert await fault(guest, "9999") == Fault("tcp", "peer", met_at)
        await exchange.kill()
        assert await fault(guest, "10000") == Fault("tcp", "exchange", met_at)
