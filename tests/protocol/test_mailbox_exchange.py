"""Objects as a task sends and receives them: through two real proxies, over restarts, and what failures say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import numpy as np
import pytest
from mailbox_party import (
    GUEST,
    HOST,
    INTRUDER,
    MIB,
    RUN,
    FederationKeys,
    MailboxParty,
    deadline,
    header_of,
    object_name,
)
from proxy_certificates import CertificateMaker
from proxy_party import ProxyHome, running

from fedparty.errors import RpcError
from fedparty.federation.exchange import ObjectExchange
from fedparty.rpc import encoding, stream
from fedparty.types import Member


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> FederationKeys:
    return FederationKeys(tmp_path_factory.mktemp("keys"))


class Federation:
    """Two parties with proxies; mailboxes are started by the tests."""

    def __init__(self, keys: FederationKeys, guest: ProxyHome, host: ProxyHome) -> None:
        self.keys = keys
        self.guest_proxy, self.host_proxy = guest, host
        self.guest = MailboxParty(keys, "10000", proxy=guest)
        self.host = MailboxParty(keys, "9999", proxy=host)

    def exchange_of(self, member: Member) -> ObjectExchange:
        """Return what the task of a member uses."""
        party, proxy = (self.guest, self.guest_proxy) if member == GUEST else (self.host, self.host_proxy)
        token = self.keys.task_token(RUN, member)
        return ObjectExchange(f"unix:{proxy.socket_path('egress')}", party.settings.local, token)


@pytest.fixture
async def federation(keys: FederationKeys) -> AsyncIterator[Federation]:
    maker = CertificateMaker()
    guest, host = ProxyHome("10000", maker), ProxyHome("9999", maker)
    async with running(guest, host):
        yield Federation(keys, guest, host)


async def failure_of(attempt: object) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value


class TestWay:
    async def test_both_directions(self, federation: Federation) -> None:
        there, back = np.arange(2 * MIB), os.urandom(3 * MIB)
        async with federation.guest.serving(), federation.host.serving():
            await federation.guest.register()
            await federation.host.register()
            async with federation.exchange_of(GUEST) as guest, federation.exchange_of(HOST) as host:
                to_host, to_guest = object_name("there"), object_name("back", HOST, GUEST)
                received = await asyncio.gather(
                    guest.send(to_host, there, deadline=deadline()),
                    host.send(to_guest, back, deadline=deadline()),
                    host.receive(to_host, deadline=deadline()),
                    guest.receive(to_guest, deadline=deadline()),
                )
        np.testing.assert_array_equal(received[2], there)
        assert received[3] == back

    async def test_a_stranger_is_known_by_its_certificate(self, keys: FederationKeys) -> None:
        """9998 has a proxy of its own and a stolen token; the host's proxy says who it is."""
        maker = CertificateMaker()
        stranger, host_proxy = ProxyHome("9998", maker), ProxyHome("9999", maker)
        async with running(stranger, host_proxy):
            host = MailboxParty(keys, "9999", proxy=host_proxy)
            async with host.serving():
                await host.register()
                egress = f"unix:{stranger.socket_path('egress')}"
                async with ObjectExchange(egress, host.settings.local, keys.task_token(RUN, GUEST)) as exchange:
                    failure = await failure_of(exchange.send(object_name(), b"evil", deadline=deadline()))
        assert (failure.code, "9998" in failure.message) == ("NOT_ALLOWED", True)


class TestRestart:
    async def test_sender_waits_for_the_peers_mailbox(self, federation: Federation) -> None:
        async with federation.host.serving():
            await federation.host.register()
        async with federation.exchange_of(GUEST) as guest, federation.exchange_of(HOST) as host:
            sending = asyncio.create_task(guest.send(object_name(), b"value", deadline=deadline(30)))
            await federation.guest_proxy.logged(method="/fedparty.v1.peer.Mailbox/Deliver")
            assert not sending.done()
            async with federation.host.serving():
                await sending
                assert await host.receive(object_name(), deadline=deadline()) == b"value"

    async def test_receiver_outlives_its_mailbox(self, federation: Federation) -> None:
        async with federation.exchange_of(GUEST) as guest, federation.exchange_of(HOST) as host:
            async with federation.host.serving():
                await federation.host.register()
                receiving = asyncio.create_task(host.receive(object_name(), deadline=deadline(30)))
                await federation.host.until_waiting(1)
            async with federation.host.serving():
                await guest.send(object_name(), b"value", deadline=deadline())
                assert await receiving == b"value"

    async def test_kill_loses_nothing_acknowledged(self, keys: FederationKeys) -> None:
        host = MailboxParty(keys, "9999")
        data = os.urandom(5 * MIB)
        async with host.process() as killed:
            await host.register()
            await host.deliver(object_name("whole"), data)
            reading = asyncio.create_task(read_first(host, object_name("half")))
            async with host.delivering("10000") as deliver:
                half = asyncio.create_task(deliver(half_of(host, data)))
                await reading
                killed.kill()
                assert (await failure_of(half)).code in ("CONNECTION_LOST", "PEER_UNREACHABLE")
        async with host.serving():
            assert await host.receive(object_name("whole")) == data
            await host.deliver(object_name("half"), data)
            assert await host.receive(object_name("half")) == data
        assert not list((host.home / "spool").rglob("*.part"))


class TestFailures:
    async def test_nothing_comes(self, federation: Federation) -> None:
        async with federation.host.serving():
            await federation.host.register()
            async with federation.exchange_of(HOST) as host:
                failure = await failure_of(host.receive(object_name("share"), deadline=deadline(0.3)))
        assert failure.code == "RECEIVE_TIMEOUT"
        assert failure.message == "waiting for tag 'share' from guest:10000: nothing came in time"

    async def test_own_mailbox_down(self, federation: Federation) -> None:
        async with federation.exchange_of(HOST) as host:
            failure = await failure_of(host.receive(object_name(), deadline=deadline(0.3)))
        assert failure.code == "MAILBOX_DOWN"
        assert failure.message.startswith("waiting for tag 'x' from guest:10000: ")

    async def test_own_proxy_down(self, federation: Federation) -> None:
        await federation.guest_proxy.kill()
        async with federation.exchange_of(GUEST) as guest:
            failure = await failure_of(guest.send(object_name(), b"", deadline=deadline(0.3)))
        assert failure.code == "PROXY_DOWN"
        assert failure.message.startswith("sending tag 'x' to host:9999: ")

    async def test_peers_proxy_down(self, federation: Federation) -> None:
        await federation.host_proxy.kill()
        async with federation.exchange_of(GUEST) as guest:
            failure = await failure_of(guest.send(object_name(), b"", deadline=deadline(1)))
        assert failure.code == "PEER_UNREACHABLE"

    async def test_peers_mailbox_down(self, federation: Federation) -> None:
        async with federation.exchange_of(GUEST) as guest:
            failure = await failure_of(guest.send(object_name(), b"", deadline=deadline(1)))
        assert failure.code == "PEER_MAILBOX_DOWN"

    async def test_unknown_party(self, federation: Federation) -> None:
        async with federation.exchange_of(GUEST) as guest:
            failure = await failure_of(guest.send(object_name("x", GUEST, INTRUDER), b"", deadline=deadline()))
        assert failure.code == "UNKNOWN_PARTY"


async def read_first(host: MailboxParty, name: object) -> None:
    """Return when the first bytes of an object can be read."""
    async for number, _ in numbered(host.receiving(name)):  # type: ignore[arg-type]
        if number == 1:
            return


async def numbered(messages: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    number = 0
    async for message in messages:
        yield number, message
        number += 1


async def half_of(host: MailboxParty, data: bytes) -> AsyncIterator[bytes]:
    encoded = encoding.encode(data)
    header = header_of(object_name("half"), encoded, host.keys.task_token(RUN, GUEST))
    for message in list(stream.messages(header, encoded.data))[:-2]:
        yield message
    await asyncio.Event().wait()
