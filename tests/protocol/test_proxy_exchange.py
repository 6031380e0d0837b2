"""Parties that meet at an exchange, which passes TLS on and sees no content."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from proxy_certificates import CertificateMaker
from proxy_echo import echoing
from proxy_party import DELIVER, SUPERVISE, ProxyHome, eventually, refusal, running

from fedparty.types import party_uri

CANARY = b"canary-5d41402abc4b2a76b9719d911017c592"


class Wire:
    """A TCP relay that keeps what passes it."""

    def __init__(self) -> None:
        self.captured = bytearray()
        self.port = 0

    @asynccontextmanager
    async def to(self, port: int = 0, *, path: str = "") -> AsyncIterator[Wire]:
        """Relay a free port to another one, or to a Unix socket."""
        tasks: set[asyncio.Task[None]] = set()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            onward = asyncio.open_unix_connection(path) if path else asyncio.open_connection("127.0.0.1", port)
            far_reader, far_writer = await onward
            for ends in ((reader, far_writer), (far_reader, writer)):
                tasks.add(asyncio.create_task(self._copy(*ends)))

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*tasks)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.captured += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


class Federation:
    """Two parties and the exchange between them."""

    def __init__(self) -> None:
        maker = CertificateMaker()
        self.exchange = ProxyHome("exchange", maker)
        self.guest = ProxyHome("10000", maker)
        self.host = ProxyHome("9999", maker)

    @asynccontextmanager
    async def running(self, *, port: int = 0) -> AsyncIterator[Federation]:
        """Run all three; `port` is where the parties look for the exchange."""
        self.exchange.variables["peers"] = [self.guest.as_peer, self.host.as_peer]
        for home in (self.guest, self.host):
            home.variables |= {"peers": [], "exchange": {"address": "127.0.0.1", "port": port or self.exchange.port}}
        async with running(self.exchange, self.guest, self.host), echoing(self.guest, self.host):
            yield self


@pytest.fixture
def federation() -> Federation:
    return Federation()


async def test_parties_reach_each_other_and_themselves(federation: Federation) -> None:
    async with federation.running():
        for home, to in ((federation.guest, "9999"), (federation.host, "10000"), (federation.guest, "10000")):
            seen = await home.call(to)
            assert (seen["x-fedparty-from"], seen["x-fedparty-to"]) == (party_uri("lab", home.party), to)
            assert "x-fedparty-host" not in seen


async def test_a_party_unknown_to_the_exchange_is_told_at_once(federation: Federation) -> None:
    async with federation.running():
        text = await refusal(federation.guest.call("77"))
        assert text.startswith("NOT_FOUND: [UNKNOWN_PARTY] the exchange has no route to party 77 (")
        await federation.guest.call("9999")


async def test_an_exchange_that_leads_astray_is_refused(federation: Federation) -> None:
    """The certificate must be the receiver's: an exchange cannot hand a call to another party."""
    astray = federation.guest.as_peer | {"id": "9999", "host_name": "p9999.lab.internal"}
    async with federation.running():
        counter = "cluster_manager.cds.update_success"
        known = await federation.exchange.counter(counter)
        federation.exchange.replace("cds.json", peers=[astray])

        async def is_taken_over() -> bool:
            return await federation.exchange.counter(counter) > known

        await eventually(is_taken_over, "the other clusters")  # before the first call, whose connection would be kept
        assert "SAN" in await refusal(federation.guest.call("9999"))


async def test_a_party_that_is_down_is_unreachable(federation: Federation) -> None:
    async with federation.running():
        await federation.host.kill()
        text = await refusal(federation.guest.call("9999"))
    assert text.startswith(
        "UNAVAILABLE: [PEER_UNREACHABLE] 10000's proxy cannot reach party 9999 through the exchange at "
        f"127.0.0.1:{federation.exchange.port}: "
    )


async def test_an_exchange_that_is_down_is_named(federation: Federation) -> None:
    async with federation.running():
        await federation.exchange.kill()
        text = await refusal(federation.guest.call("9999"))
    assert "[PEER_UNREACHABLE] 10000's proxy cannot reach party 9999 through the exchange at 127.0.0.1:" in text
    assert "Connection_refused" in text


async def test_a_revoked_party_is_refused_through_the_exchange(federation: Federation) -> None:
    maker = federation.guest.maker
    maker.revoked.append(federation.guest.leaf.serial)
    federation.guest.variables["crl_pem"] = maker.crl_pem()
    async with federation.running():
        assert "[PEER_TLS_REFUSED]" in await refusal(federation.guest.call("9999"))


async def test_a_party_is_added_without_touching_streams(federation: Federation) -> None:
    late = ProxyHome("8888", federation.guest.maker)
    async with federation.running(), running(late), echoing(late), federation.guest.channel() as channel:
        stream = channel.stream_stream(SUPERVISE)(metadata=[("x-fedparty-to", "9999")], timeout=60)
        await stream.write(b"before")
        assert await stream.read() == b"before"
        assert "[UNKNOWN_PARTY]" in await refusal(federation.guest.call("8888"))
        peers = [federation.guest.as_peer, federation.host.as_peer, late.as_peer]
        federation.exchange.replace("cds.json", peers=peers)
        federation.exchange.replace("lds.json", peers=peers)

        async def is_known() -> bool:
            try:
                await federation.guest.call("8888")
            except grpc.aio.AioRpcError:
                return False
            return True

        await eventually(is_known, "the new party")
        assert await federation.exchange.counter("listener_manager.total_filter_chains_draining") == 0
        await stream.write(b"after")
        assert await stream.read() == b"after"
        await stream.done_writing()


async def test_the_exchange_sees_no_content(federation: Federation) -> None:
    wire = Wire()
    async with wire.to(federation.exchange.port), federation.running(port=wire.port):
        async with federation.guest.channel() as channel:
            metadata = [("x-fedparty-to", "9999"), ("x-fedparty-job", CANARY.decode())]
            await channel.unary_unary(DELIVER)(CANARY * 100, metadata=metadata, timeout=10)
        assert b"p9999.lab.internal" in wire.captured  # the server name is in the clear: all that the exchange needs
        for secret in (CANARY, b"fedparty.v1.peer", b"spiffe://"):
            assert secret not in wire.captured


async def test_the_same_capture_finds_plain_text(federation: Federation) -> None:
    wire = Wire()
    async with (
        federation.running(),
        wire.to(path=federation.host.socket_path("federation_peer")),
        grpc.aio.insecure_channel(f"127.0.0.1:{wire.port}") as channel,
    ):
        await channel.unary_unary(DELIVER)(CANARY * 100, timeout=10)
    assert CANARY in wire.captured


async def test_the_exchange_logs_who_was_connected(federation: Federation) -> None:
    async with federation.running():
        await federation.guest.call("9999")
        await federation.guest.kill()
        line = await federation.exchange.logged(message="connection", peer="p9999.lab.internal")
    assert line["bytes_in"] > 0
