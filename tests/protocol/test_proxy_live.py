"""What changes while the proxies run: parties come, certificates are renewed and revoked, files are broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from proxy_certificates import CertificateMaker
from proxy_echo import echoing
from proxy_party import PING, SUPERVISE, ProxyHome, call, eventually, knocking, refusal, running

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


class OpenStream:
    """A stream that echoes; `check` fails when it was cut."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self._call = call
        self._count = 0

    async def check(self) -> None:
        self._count += 1
        message = b"message %d" % self._count
        await self._call.write(message)
        assert await self._call.read() == message


@asynccontextmanager
async def open_stream(home: ProxyHome, to: str) -> AsyncIterator[OpenStream]:
    """Hold a stream open from one party's service to another's."""
    async with home.channel() as channel:
        stream = OpenStream(channel.stream_stream(SUPERVISE)(metadata=[("x-fedparty-to", to)], timeout=60))
        await stream.check()
        yield stream


@pytest.fixture
def maker() -> CertificateMaker:
    return CertificateMaker()


@pytest.fixture
def pair(maker: CertificateMaker) -> tuple[ProxyHome, ProxyHome]:
    return ProxyHome("10000", maker), ProxyHome("9999", maker)


async def _fate(home: ProxyHome, to: str) -> str:
    """Return what a caller is told; empty when the call got through."""
    try:
        await home.call(to)
    except grpc.aio.AioRpcError as exc:
        return exc.details() or "?"
    return ""


def is_told(home: ProxyHome, to: str, code: str) -> Callable[[], Awaitable[bool]]:
    """Return a condition: a call of `home` to party `to` ends with that code, or gets through if that is empty."""

    async def look() -> bool:
        text = await _fate(home, to)
        return text.startswith(f"[{code}]") if code else not text

    return look


async def test_a_party_is_added_and_removed_without_touching_streams(
    pair: tuple[ProxyHome, ProxyHome], maker: CertificateMaker
) -> None:
    guest, host = pair
    late = ProxyHome("8888", maker)
    guest.variables["peers"] = [guest.as_peer, host.as_peer]
    async with running(guest, host, late), echoing(host, late), open_stream(guest, "9999") as stream:
        assert "[UNKNOWN_PARTY]" in await refusal(guest.call("8888"))
        guest.replace("cds.json", peers=[guest.as_peer, host.as_peer, late.as_peer])
        await eventually(is_told(guest, "8888", ""), "the new party")
        await stream.check()
        guest.replace("cds.json")
        await eventually(is_told(guest, "8888", "UNKNOWN_PARTY"), "the party is unknown again")
        await stream.check()


async def test_a_quiet_stream_stays_open(pair: tuple[ProxyHome, ProxyHome]) -> None:
    guest, host = pair
    async with running(guest, host), echoing(host), open_stream(guest, "9999") as stream:
        await asyncio.sleep(2)  # longer than a keep-alive interval; test_proxy_configuration holds the time-outs
        await stream.check()


@pytest.mark.parametrize(
    ("content", "counter"),
    [
        ("{ this is not JSON", "cluster_manager.cds.update_failure"),
        ('{"resources": [], "resourcs": []}', "cluster_manager.cds.update_rejected"),
        (
            f'{{"resources": [{{"@type": "{CLUSTER}", "name": "9999", "tpye": 1}}]}}',
            "cluster_manager.cds.update_rejected",
        ),
        (
            f'{{"resources": [{{"@type": "{CLUSTER}", "name": "9999", "type": "EDS"}}]}}',
            "cluster_manager.cds.update_rejected",
        ),
    ],
    ids=["no JSON", "unknown field", "unknown nested field", "refused"],
)
async def test_a_broken_live_file_keeps_the_old_configuration(
    pair: tuple[ProxyHome, ProxyHome], content: str, counter: str
) -> None:
    guest, host = pair
    async with running(guest, host), echoing(host), open_stream(guest, "9999") as stream:
        guest.replace("cds.json", content)
        await guest.until_active(counter)
        await stream.check()
        await guest.call("9999")
        guest.replace("cds.json")
        await guest.call("9999")


async def test_a_broken_file_at_the_start_costs_the_ways_out_alone(pair: tuple[ProxyHome, ProxyHome]) -> None:
    guest, host = pair
    async with running(guest, host), echoing(guest, host):
        await guest.kill()
        guest.replace("cds.json", "{")
        await guest.start()
        assert "[UNKNOWN_PARTY]" in await refusal(guest.call("9999"))
        await host.call("10000")
        guest.replace("cds.json")
        await eventually(is_told(guest, "9999", ""), "the way out")


async def test_writing_into_a_live_file_is_not_noticed(pair: tuple[ProxyHome, ProxyHome]) -> None:
    guest, host = pair
    guest.variables["peers"] = [guest.as_peer]
    async with running(guest, host), echoing(host):
        guest.write_over("cds.json", peers=[guest.as_peer, host.as_peer])
        for _ in range(20):
            assert "[UNKNOWN_PARTY]" in await refusal(guest.call("9999"))
        guest.replace("cds.json", peers=[guest.as_peer, host.as_peer])
        await eventually(is_told(guest, "9999", ""), "the new party")


async def test_a_missing_live_file_is_no_start(pair: tuple[ProxyHome, ProxyHome]) -> None:
    guest, _ = pair
    async with running(guest):
        await guest.kill()
        (guest.path / "bundle/proxy/live/lds.json").unlink()
        with pytest.raises(AssertionError, match=r"lds\.json"):
            await guest.start()


async def test_certificates_are_renewed_without_touching_streams(pair: tuple[ProxyHome, ProxyHome]) -> None:
    guest, host = pair
    guest.variables["party"] = host.variables["party"] = {"max_connection_age_s": 1}
    async with running(guest, host), echoing(host), open_stream(guest, "9999") as stream:
        assert (await guest.call("9999"))["x-fedparty-serial"] == guest.leaf.serial_hex
        for home in (guest, host):
            home.leaf = home.maker.party(home.party, key=home.leaf.key)
            home.replace("sds_identity.json")

        async def is_renewed() -> bool:
            return (await guest.call("9999"))["x-fedparty-serial"] == guest.leaf.serial_hex

        await eventually(is_renewed, "the renewed certificate")
        await stream.check()


async def test_a_revoked_party_is_cut_off_within_the_age_of_a_connection(
    pair: tuple[ProxyHome, ProxyHome], maker: CertificateMaker
) -> None:
    guest, host = pair
    host.variables["party"] = {"max_connection_age_s": 1}
    async with running(guest, host), echoing(guest, host):
        await guest.call("9999")
        maker.revoked.append(guest.leaf.serial)
        host.replace("sds_trust.json")
        replaced_at = asyncio.get_running_loop().time()
        await eventually(is_told(guest, "9999", "PEER_TLS_REFUSED"), "the refusal")
        assert asyncio.get_running_loop().time() - replaced_at < 1 + 1 + 1  # age, drain_timeout, slowness
        line = await host.logged(message="handshake refused", peer_serial=guest.leaf.serial_hex)
        assert "certificate_revoked" in line["reason"]
        text = await refusal(host.call("10000"))
        assert "[PEER_TLS_REFUSED]" in text
        assert "certificate_revoked" in text


async def test_a_new_handshake_is_refused_as_soon_as_the_list_is_there(maker: CertificateMaker) -> None:
    host = ProxyHome("9999", maker)
    leaf = maker.party("10000")

    async def is_refused() -> bool:
        async with knocking(host, leaf) as channel:
            try:
                await call(channel, PING, "9999")
            except grpc.aio.AioRpcError:
                return True
            return False

    async with running(host), echoing(host):
        assert not await is_refused()
        maker.revoked.append(leaf.serial)
        host.replace("sds_trust.json")
        await eventually(is_refused, "the refusal", timeout_s=2)


async def test_connections_are_renewed_without_a_failed_call(pair: tuple[ProxyHome, ProxyHome]) -> None:
    guest, host = pair
    host.variables["party"] = {"max_connection_age_s": 1}
    async with running(guest, host), echoing(host), open_stream(guest, "9999") as stream:
        while await host.counter("http.ingress.downstream_cx_max_duration_reached") < 2:
            await guest.call("9999")
        await stream.check()
