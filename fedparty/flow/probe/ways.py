"""The ways to the parties, measured: reached or not, how long a call takes, how fast bytes cross.

Owns the measuring. The calls are `fedparty.flow.peers`'s; where a failed one ended is `hops`'s.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

from fedparty.errors import RpcError
from fedparty.flow.messages import check_protocol
from fedparty.flow.peers import Peers, Ping
from fedparty.flow.probe.answers import Way
from fedparty.flow.probe.hops import fault_of
from fedparty.types import PartyId

_AT_ONCE = 32
_PINGS = 5
_MIB = 1 << 20
_FIRST_BYTES, _LAST_BYTES = _MIB // 16, 16 * _MIB
_MEASURING_S = 2.0


class Ways:
    """Measures the ways to several parties.

    Parameters
    ----------
    peers
        A client of their flows.
    is_throughput_wanted
        Whether bytes are sent, up to 32 MiB and 2 s to each party.
    """

    def __init__(self, peers: Peers, *, is_throughput_wanted: bool) -> None:
        self._peers = peers
        self._is_throughput_wanted = is_throughput_wanted
        self._padding = bytes(_MIB)
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def measure(self, parties: Sequence[PartyId]) -> tuple[Way, ...]:
        """Return the way to each party: all are tried at once; those that answer are then measured one by one."""
        found = await asyncio.gather(*(self._reach(party) for party in parties))
        timed = [await self._time(way) if way.is_reachable else way for way in found]
        if not self._is_throughput_wanted:
            return tuple(timed)
        return tuple([await self._fill(way) if way.is_reachable else way for way in timed])

    async def _reach(self, party: PartyId) -> Way:
        """Say who answers; a connection that broke while it was idle is no fault."""
        async with self._limit:
            try:
                try:
                    ping = await self._ping(party)
                except RpcError as exc:
                    if exc.code != "CONNECTION_LOST":
                        raise
                    ping = await self._ping(party)
                return Way(party, latency_ms=ping.elapsed_s * 1e3, version=ping.version)
            except RpcError as exc:
                return _failed(party, exc)

    async def _ping(self, party: PartyId) -> Ping:
        ping = await self._peers.ping(party)
        check_protocol(ping.protocol, f"party {party}")
        return ping

    async def _time(self, way: Way) -> Way:
        party = PartyId(way.party)
        try:
            seconds = [(await self._peers.ping(party)).elapsed_s for _ in range(_PINGS)]
        except RpcError as exc:
            return _failed(party, exc)
        return replace(way, latency_ms=round(statistics.median(seconds) * 1e3, 3))

    async def _fill(self, way: Way) -> Way:
        """Send twice as much each time, and keep the speed of the last amount that crossed within the limit."""
        size, speed = _FIRST_BYTES, None
        try:
            async with asyncio.timeout(_MEASURING_S):
                while size <= _LAST_BYTES:
                    began = time.monotonic()
                    await self._send(PartyId(way.party), size)
                    speed = size / _MIB / (time.monotonic() - began)
                    size *= 2
        except TimeoutError:
            pass  # the line is slow: what was measured before counts
        except RpcError as exc:
            return _failed(PartyId(way.party), exc)
        return replace(way, throughput_mib_s=None if speed is None else round(speed, 1))

    async def _send(self, party: PartyId, size: int) -> None:
        pieces = [self._padding[:size]] if size < _MIB else [self._padding] * (size // _MIB)
        await asyncio.gather(*(self._peers.ping(party, padding=piece) for piece in pieces))


def _failed(party: PartyId, error: RpcError) -> Way:
    fault = fault_of(error)
    detail = f"{error.message.removeprefix(f'ping at party {party}: ')} [{error.code}]"
    return Way(party, hop=fault.hop, at=fault.at, address=fault.address, detail=detail, remedy=error.hint)
