"""Which of a party's own tasks may ask for resources: the first, a few at a time, and nobody behind one that waits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from fedparty.flow.resources import Rank
from fedparty.flow.turns import AT_ONCE, Turn, Turns
from fedparty.types import JobId, PartyId, TaskRun

HERE, THERE, ELSEWHERE = PartyId("10000"), PartyId("9999"), PartyId("9998")


class _Tasks:
    """Tasks that ask, by number; each stays in its turn until it is told to leave."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.asking: dict[int, Turn] = {}
        self._leaving: dict[int, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def add(self, number: int, *parties: PartyId, since: float | None = None) -> None:
        self._leaving[number] = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._ask(number, parties, number if since is None else since)))
        await _settle()

    async def leave(self, number: int) -> None:
        self._leaving[number].set()
        await _settle()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, number: int, parties: tuple[PartyId, ...], since: float) -> None:
        rank = Rank(since, TaskRun(JobId("10000-01JD3M00000000000000000000"), "sum", number))
        async with self.turns.turn(rank, parties) as turn:
            self.asking[number] = turn
            await self._leaving[number].wait()
        del self.asking[number]


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_few_ask_at_once_and_the_next_is_the_first_in_rank() -> None:
    async with AsyncExitStack() as stack:
        tasks = _Tasks()
        stack.push_async_callback(tasks.close)
        for number in range(AT_ONCE + 2):
            await tasks.add(number, HERE, THERE)
        await tasks.add(99, HERE, THERE, since=-1)
        assert sorted(tasks.asking) == list(range(AT_ONCE))
        await tasks.leave(3)
        assert 99 in tasks.asking
        await tasks.leave(4)
        assert AT_ONCE in tasks.asking
        assert len(tasks.turns) == AT_ONCE + 1


async def test_behind_one_that_waits_one_stands_by_and_the_rest_is_held_back() -> None:
    async with AsyncExitStack() as stack:
        tasks = _Tasks()
        stack.push_async_callback(tasks.close)
        await tasks.add(1, HERE, THERE)
        tasks.turns.waits(tasks.asking[1], [THERE])
        await tasks.add(2, HERE, THERE)
        await tasks.add(3, HERE, THERE)
        await tasks.add(4, HERE, ELSEWHERE)
        await tasks.add(5, HERE, THERE, since=0)
        assert sorted(tasks.asking) == [1, 2, 4, 5]
        assert tasks.asking[2].waits_at == {THERE}
        assert not tasks.asking[4].waits_at
        assert not tasks.asking[5].waits_at
        tasks.turns.waits(tasks.asking[1], [])
        await _settle()
        assert sorted(tasks.asking) == [1, 2, 3, 4, 5]
        assert tasks.asking[3].waits_at == {THERE}


async def test_who_leaves_before_its_turn_leaves_no_trace() -> None:
    tasks = _Tasks()
    for number in range(AT_ONCE + 3):
        await tasks.add(number, HERE)
    await tasks.close()
    assert len(tasks.turns) == 0
