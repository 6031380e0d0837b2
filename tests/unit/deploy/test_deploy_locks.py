"""The locks of places: nothing goes on without one, and each is free at the end, however that comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from fake_engine import FakeEngine

from fedparty.deploy.locks import PlaceLock, locked
from fedparty.errors import DeployError


def lock_all(*engines: FakeEngine) -> AbstractAsyncContextManager[Mapping[str, PlaceLock]]:
    return locked(engines, asyncio.Semaphore(32))


def is_anything_held(engines: Sequence[FakeEngine]) -> bool:
    return any(engine.is_held for engine in engines)


class Work:
    """Work that tells whether it began and how it ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.is_cancelled = False

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        return "done"


async def test_work_is_done_while_the_lock_is_held() -> None:
    engine, work = FakeEngine("10000"), Work()
    work.may_end.set()
    async with lock_all(engine) as locks:
        assert engine.is_held
        assert await locks["here"].during(work) == "done"
        assert engine.is_held
    assert not engine.is_held


async def test_an_error_of_the_work_comes_out_as_it_is() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async with lock_all(FakeEngine("10000")) as locks:
        with pytest.raises(ZeroDivisionError):
            await locks["here"].during(fail)


async def test_a_refused_lock_keeps_only_its_own_place_from_being_worked_at() -> None:
    refused, free, work = FakeEngine("10000", lock_place="there", is_locked=True), FakeEngine("9999"), Work()
    work.may_end.set()
    async with lock_all(refused, free) as locks:
        for _ in range(2):
            with pytest.raises(DeployError, match="there: somebody is deploying here now"):
                await locks["there"].during(work)
        assert not work.begun.is_set()
        assert await locks["here"].during(work) == "done"
    assert not free.is_held


async def test_work_is_cancelled_where_the_lock_is_lost_and_goes_on_elsewhere() -> None:
    loser, other = FakeEngine("10000", lock_place="there"), FakeEngine("9999")
    ended, goes_on = Work(), Work()
    async with lock_all(loser, other) as locks:
        there = asyncio.create_task(locks["there"].during(ended))
        here = asyncio.create_task(locks["here"].during(goes_on))
        await ended.begun.wait()
        loser.lost.set()
        with pytest.raises(DeployError, match="the lock was lost"):
            await there
        assert ended.is_cancelled
        with pytest.raises(DeployError, match="the lock was lost"):
            await locks["there"].during(Work())
        goes_on.may_end.set()
        assert await here == "done"
    assert not is_anything_held([loser, other])


async def test_a_lock_that_is_lost_while_nothing_is_done_there_ends_nothing_else() -> None:
    loser, work = FakeEngine("10000"), Work()
    work.may_end.set()
    async with lock_all(loser):
        loser.lost.set()
        assert await work() == "done"
    assert not loser.is_held


async def test_work_that_is_cancelled_is_ended_before_the_lock_is_free() -> None:
    engine, work = FakeEngine("10000"), Work()

    async def deploy() -> None:
        async with lock_all(engine) as locks:
            try:
                await locks["here"].during(work)
            finally:
                assert work.is_cancelled
                assert engine.is_held

    deploying = asyncio.create_task(deploy())
    await work.begun.wait()
    deploying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deploying
    assert not engine.is_held


async def fail_inside(engines: Sequence[FakeEngine]) -> None:
    async with lock_all(*engines):
        raise ZeroDivisionError


async def test_everything_is_free_after_an_error() -> None:
    engines = [FakeEngine("10000", lock_place="there"), FakeEngine("9999")]
    with pytest.raises(ZeroDivisionError):
        await fail_inside(engines)
    assert [engine.lock_count for engine in engines] == [1, 1]
    assert not is_anything_held(engines)


class Slow(FakeEngine):
    """Its machine is asked and does not answer."""

    def __init__(self, party: str) -> None:
        super().__init__(party)
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        self.is_held = True
        try:
            self.asked.set()
            await asyncio.Event().wait()
            yield
        finally:
            self.is_held = False


async def test_a_lock_that_is_still_being_taken_when_all_is_cancelled_is_given_up() -> None:
    taken, slow = FakeEngine("10000", lock_place="there"), Slow("9999")

    async def take() -> None:
        async with lock_all(taken, slow):
            pytest.fail("both are held")

    taking = asyncio.create_task(take())
    await slow.asked.wait()
    assert taken.is_held
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert not is_anything_held([taken, slow])


async def test_one_lock_for_each_place() -> None:
    engines = [FakeEngine("10000"), FakeEngine("9999"), FakeEngine("8888", lock_place="there")]
    async with lock_all(*engines) as locks:
        assert set(locks) == {"here", "there"}
        assert all(isinstance(lock, PlaceLock) for lock in locks.values())
    assert sum(engine.lock_count for engine in engines) == 2
