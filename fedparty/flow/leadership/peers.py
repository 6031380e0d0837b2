"""Which of another party's leaders may still direct this party: the newest that was heard.

Owns refusing the older ones, and ending what they asked for and still goes on, before the newer one is served. Does not
own statements (`store`), nor this party's own leader (`leadership`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from fedparty.rpc import catalogue
from fedparty.rpc.breaking import Breakable
from fedparty.rpc.epochs import stale
from fedparty.types import PartyId

_HIGHEST = 1 << 62


class Records(Protocol):
    """Where the highest epoch of each party is kept."""

    async def raised(self, party: PartyId, epoch: int) -> int:
        """Keep an epoch unless a higher one is kept, and return the highest."""
        ...


@dataclass(eq=False)
class _Call:
    party: PartyId
    epoch: int
    block: Breakable
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class PeerEpochs:
    """The leaders of other parties.

    Parameters
    ----------
    records
        What outlives this process.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._highest: dict[PartyId, int] = {}
        self._calls: set[_Call] = set()
        self._locks: WeakValueDictionary[PartyId, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def guarding(self, party: PartyId, epoch: int) -> AsyncIterator[None]:
        """Run a block for a party's leader; a newer one that calls breaks it off.

        Epoch 0, of a party whose flow has no replicas, always passes.

        Raises
        ------
        RpcError
            STALE_LEADER: a newer leader has called. BAD_REQUEST: that is no epoch.
        DatabaseError
            Who is the newest cannot be recorded now.
        """
        if not epoch:
            yield
            return
        await self._admit(party, epoch)
        async with Breakable() as block:
            call = _Call(party, epoch, block)
            self._calls.add(call)
            try:
                yield
            finally:
                self._calls.discard(call)
                call.ended.set()

    async def _admit(self, party: PartyId, epoch: int) -> None:
        if epoch > _HIGHEST:
            raise catalogue.error("BAD_REQUEST", f"{epoch} is not an epoch")
        if epoch > self._highest.get(party, 0):
            async with self._locks.setdefault(party, asyncio.Lock()):
                if epoch > self._highest.get(party, 0):
                    await self._succeed(party, await self._records.raised(party, epoch))
        if epoch < self._highest[party]:
            raise stale(epoch, self._highest[party], f"party {party}")

    async def _succeed(self, party: PartyId, highest: int) -> None:
        """End the calls of former leaders; nobody calls in the new epoch before that."""
        while older := [call for call in self._calls if call.party == party and call.epoch < highest]:
            for call in older:
                call.block.break_off(stale(call.epoch, highest, f"party {party}"))
            await asyncio.gather(*(call.ended.wait() for call in older))
        self._highest[party] = highest
