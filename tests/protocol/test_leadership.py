"""Who leads, with a real database: never two that can change anything, and somebody soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import count, create, insert, settings_with
from mariadb import MariaDb
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database
from fedparty.database.migrate import upgrade
from fedparty.errors import ConfigurationError, DatabaseError, FedpartyError, RpcError
from fedparty.flow.leadership import Leadership
from fedparty.flow.leadership.leadership import monotonic
from fedparty.flow.leadership.store import EpochStore, Lease, LeaseStore
from fedparty.settings import FlowSettings
from fedparty.types import PartyId

LEASE_S = 0.6


class Replica:
    """A replica's lease, its clock, and the database that it writes to as leader."""

    def __init__(self, settings: FlowSettings, name: str) -> None:
        self._leases = Database(settings, lock_wait_s=1, silence_s=LEASE_S)
        self.store = LeaseStore(self._leases)
        self.skipped_s = 0.0
        self.leadership = Leadership(self.store, name, LEASE_S, lambda: monotonic() + self.skipped_s)
        self.database = Database(settings, silence_s=LEASE_S, fence=self.leadership.fence)

    async def leads(self) -> None:
        await asyncio.wait_for(self.leadership.campaign(), 10)

    async def close(self) -> None:
        await self._leases.close()
        await self.database.close()


@pytest.fixture
def settings(mariadb: MariaDb) -> FlowSettings:
    settings = settings_with(**mariadb.by_socket(mariadb.create()))
    upgrade(settings)
    return settings


@asynccontextmanager
async def replicas(settings: FlowSettings) -> AsyncIterator[tuple[Replica, Replica]]:
    one, two = Replica(settings, "one"), Replica(settings, "two")
    async with AsyncExitStack() as stack:
        for each in (one, two):
            stack.push_async_callback(each.close)
        yield one, two


@asynccontextmanager
async def leading(replica: Replica) -> AsyncIterator[asyncio.Task[None]]:
    """Let a replica lead while the block runs, in a task that ends with what ended it."""

    async def lead() -> None:
        await replica.leadership.campaign()
        async with replica.leadership.held():
            led.set()
            await over.wait()

    led, over = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(lead())
    await asyncio.wait_for(led.wait(), 10)
    yield task
    over.set()
    with suppress(FedpartyError):
        await task


async def test_one_leads_and_the_other_takes_over_from_one_that_is_silent(settings: FlowSettings) -> None:
    async with replicas(settings) as (one, two):
        await one.leads()
        await create(one.database)
        await insert(one.database, 1)
        began = time.monotonic()
        await two.leads()
        assert time.monotonic() - began > LEASE_S / 2
        assert two.leadership.epoch > one.leadership.epoch >= time.time() - 60
        await insert(two.database, 2)
        assert not one.leadership.leads
        with pytest.raises(RpcError, match="leads no more") as raised:
            one.leadership.check()
        assert raised.value.code == "SHUTTING_DOWN"
        with pytest.raises(DatabaseError, match="leads no more"):
            await insert(one.database, 3)
        assert await count(two.database) == 2


async def test_who_renews_its_lease_keeps_it_and_who_resigns_is_succeeded_at_once(settings: FlowSettings) -> None:
    async with replicas(settings) as (one, two), leading(one) as leader:
        waiting = asyncio.create_task(two.leadership.campaign())
        await asyncio.wait((waiting,), timeout=3 * LEASE_S)
        assert not waiting.done()
        assert one.leadership.leads
        assert not leader.done()
        await one.store.resign("one")
        await asyncio.wait_for(waiting, LEASE_S)
        with pytest.raises(FedpartyError, match="another replica leads now"):
            await asyncio.wait_for(leader, LEASE_S)


async def test_a_leader_that_ends_in_order_gives_its_lease_back(settings: FlowSettings) -> None:
    async with replicas(settings) as (one, two):
        async with leading(one):
            pass
        assert (await two.store.lease()).holder == ""
        await asyncio.wait_for(two.leads(), LEASE_S)


async def test_a_leader_that_slept_knows_it_by_its_own_clock_and_for_ever(settings: FlowSettings) -> None:
    async with replicas(settings) as (one, _), leading(one) as leader:
        await create(one.database)
        one.skipped_s = 2 * LEASE_S
        with pytest.raises(DatabaseError, match="not renewed in time"):
            await insert(one.database, 1)  # although nobody else leads yet
        one.skipped_s = 0
        with pytest.raises(RpcError, match="leads no more"):
            one.leadership.check()
        with pytest.raises(FedpartyError, match="leads no more"):
            await asyncio.wait_for(leader, 5)


async def test_an_election_waits_for_the_transaction_before_it(settings: FlowSettings) -> None:
    """What the old leader has under way is committed before the new one reads anything, or is undone."""
    async with replicas(settings) as (one, two):
        await one.leads()
        await create(one.database)
        began = asyncio.Event()

        async def work(connection: AsyncConnection) -> None:
            for x in range(6):  # never silent for as long as the server bears
                await connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": x})
                began.set()
                await asyncio.sleep(LEASE_S / 4)
            assert not elected.done()

        seen = await two.store.lease()
        writing = asyncio.create_task(one.database.write(work))
        await began.wait()
        elected = asyncio.create_task(two.store.elect(seen, "two"))
        await writing
        assert await elected is not None
        assert await count(two.database) == 6
        with pytest.raises(DatabaseError, match="leads no more"):
            await insert(one.database, 6)


async def test_a_leader_stopped_within_a_transaction_holds_nobody_up(settings: FlowSettings) -> None:
    async with replicas(settings) as (one, two):
        await one.leads()
        await create(one.database)
        began, wakes = asyncio.Event(), asyncio.Event()

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
            began.set()
            await wakes.wait()
            await connection.execute(sa.text("INSERT INTO t VALUES (2)"))

        writing = asyncio.create_task(one.database.write(work))
        await began.wait()
        await asyncio.wait_for(two.leads(), 5)  # the server undoes what is silent for a second
        await insert(two.database, 1)
        wakes.set()
        with pytest.raises(DatabaseError, match="leads no more"):
            await writing
        assert await count(two.database) == 1


async def test_two_that_stand_for_election_at_once(settings: FlowSettings) -> None:
    async with replicas(settings) as (one, two):
        seen = await one.store.lease()
        epochs = await asyncio.gather(one.store.elect(seen, "one"), two.store.elect(seen, "two"))
        assert sorted(epoch is None for epoch in epochs) == [False, True]


async def test_an_election_whose_answer_was_lost_is_not_held_again(settings: FlowSettings) -> None:
    async with replicas(settings) as (one, two):
        seen = await one.store.lease()
        epoch = await one.store.elect(seen, "one")
        assert epoch == await one.store.elect(seen, "one")
        assert await two.store.elect(seen, "two") is None
        assert await one.store.lease() == Lease("one", 1)


async def test_an_epoch_is_never_given_twice_even_by_a_database_that_was_restored(
    settings: FlowSettings, mariadb: MariaDb
) -> None:
    async with replicas(settings) as (one, two):
        await one.leads()
        with mariadb.admin(sa.make_url(settings.database_url).database) as cursor:
            cursor.execute("UPDATE epochs SET epoch = 5")
        await asyncio.sleep(1)  # the clock of the database, in seconds
        await two.leads()
        assert two.leadership.epoch > one.leadership.epoch


async def test_a_database_that_is_away_for_longer_than_the_lease(settings: FlowSettings, mariadb: MariaDb) -> None:
    async with replicas(settings) as (one, two):
        async with leading(one) as leader:
            waiting = asyncio.create_task(two.leadership.campaign())
            mariadb.kill()
            with pytest.raises(FedpartyError, match="leads no more"):
                await asyncio.wait_for(leader, 10)
            assert not one.leadership.leads
        assert not waiting.done()
        mariadb.start()
        await asyncio.wait_for(waiting, 10)
        assert two.leadership.leads


async def test_the_highest_epoch_of_a_peer_is_kept(settings: FlowSettings) -> None:
    async with replicas(settings) as (one, _):
        await one.leads()
        epochs, party = EpochStore(one.database), PartyId("9999")
        assert [await epochs.raised(party, epoch) for epoch in (7, 9, 8)] == [7, 9, 9]
        assert await EpochStore(one.database).raised(party, 1) == 9


def test_sqlite_is_for_one_flow_alone(tmp_path: Path) -> None:
    settings = settings_with(database_url=f"sqlite+aiosqlite:///{tmp_path}/flow.db")
    with pytest.raises(ConfigurationError, match="for one flow alone") as raised:
        Database(settings, silence_s=1)
    assert "MariaDB or MySQL" in raised.value.hint
