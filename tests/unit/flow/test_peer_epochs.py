"""The leaders of other parties: a newer one ends what an older one asked for, before it is served."""

from __future__ import annotations

import asyncio

import pytest

from fedparty.errors import RpcError
from fedparty.flow.leadership.peers import PeerEpochs
from fedparty.types import PartyId

PARTY, OTHER = PartyId("9999"), PartyId("10000")


class Records:
    """Keeps the highest in memory, as a database does on disk; answers when it is let."""

    def __init__(self) -> None:
        self.kept: dict[PartyId, int] = {}
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def raised(self, party: PartyId, epoch: int) -> int:
        await self.may_answer.wait()
        self.kept[party] = max(epoch, self.kept.get(party, 0))
        return self.kept[party]


class Call:
    """A call that goes on until it is told to end, or broken off; then it takes a while to unwind."""

    def __init__(self, epochs: PeerEpochs, epoch: int, party: PartyId = PARTY) -> None:
        self.is_served = asyncio.Event()
        self.may_end, self.may_unwind = asyncio.Event(), asyncio.Event()
        self.may_unwind.set()
        self.task = asyncio.create_task(self._run(epochs, epoch, party))

    async def _run(self, epochs: PeerEpochs, epoch: int, party: PartyId) -> None:
        async with epochs.guarding(party, epoch):
            self.is_served.set()
            try:
                await self.may_end.wait()
            finally:
                await self.may_unwind.wait()

    async def served(self) -> None:
        await asyncio.wait_for(self.is_served.wait(), 5)

    async def refused(self) -> None:
        with pytest.raises(RpcError) as raised:
            await asyncio.wait_for(self.task, 5)
        assert raised.value.code == "STALE_LEADER"

    async def ends(self) -> None:
        self.may_end.set()
        await asyncio.wait_for(self.task, 5)


async def idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_newer_leader_is_served_when_what_an_older_one_asked_for_has_ended() -> None:
    epochs = PeerEpochs(Records())
    older = Call(epochs, 1)
    await older.served()
    older.may_unwind.clear()
    newer = [Call(epochs, 2), Call(epochs, 2)]
    await idle()
    assert not any(call.is_served.is_set() for call in newer)
    older.may_unwind.set()
    await older.refused()
    for call in newer:
        await call.served()
        await call.ends()
    await Call(epochs, 1).refused()


async def test_an_older_leader_that_calls_while_the_newer_one_is_recorded() -> None:
    records = Records()
    epochs = PeerEpochs(records)
    first = Call(epochs, 1)
    await first.served()
    records.may_answer.clear()
    newer = Call(epochs, 2)
    await idle()
    between = Call(epochs, 1)
    await between.served()
    records.may_answer.set()
    await newer.served()
    await first.refused()
    await between.refused()
    await newer.ends()


async def test_what_was_recorded_before_a_restart_counts() -> None:
    records = Records()
    call = Call(PeerEpochs(records), 7)
    await call.served()
    await call.ends()
    await Call(PeerEpochs(records), 6).refused()


async def test_parties_have_epochs_of_their_own_and_those_without_replicas_none() -> None:
    records = Records()
    epochs = PeerEpochs(records)
    calls = [Call(epochs, 9), Call(epochs, 3, OTHER), Call(epochs, 0), Call(epochs, 0, OTHER)]
    for call in calls:
        await call.served()
    for call in calls:
        await call.ends()
    assert records.kept == {PARTY: 9, OTHER: 3}


async def test_what_cannot_be_an_epoch() -> None:
    records = Records()
    with pytest.raises(RpcError) as raised:
        await Call(PeerEpochs(records), 1 << 63).task
    assert raised.value.code == "BAD_REQUEST"
    assert not records.kept
