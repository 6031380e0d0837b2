"""The locks of all places that are worked at, held side by side.

Owns how long each is held, and that nothing goes on at a place whose lock was refused or lost. Does not own a lock
itself: it is the engine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from fedparty.deploy.engine.base import Engine

Result = TypeVar("Result")


class PlaceLock:
    """One place's lock, held by a task of its own: who enters a lock must live as long as it is held."""

    def __init__(self, engine: Engine, at_once: asyncio.Semaphore) -> None:
        self._engine = engine
        self._at_once = at_once
        self._is_held = asyncio.Event()
        self._is_over = asyncio.Event()
        self._holding = asyncio.create_task(self._hold())

    async def answered(self) -> None:
        """Wait until it is held, or refused."""
        waiting = asyncio.create_task(self._is_held.wait())
        try:
            await asyncio.wait({waiting, self._holding}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    async def during(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do some work, which is cancelled where the lock is lost.

        Raises
        ------
        FedpartyError
            The lock was refused or lost before, then nothing was done; or it was lost meanwhile.
        """
        if self._holding.done():
            await self._holding
        working = asyncio.ensure_future(work())
        try:
            await asyncio.wait({working, self._holding}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await _end(working)
                await self._holding
            return await working
        finally:
            await _end(working)

    async def release(self) -> None:
        """Let go of it, or give up taking it."""
        self._is_over.set()
        if not self._is_held.is_set():
            self._holding.cancel()
        await asyncio.gather(self._holding, return_exceptions=True)

    async def _hold(self) -> None:
        """End by itself only with the error that says why the lock is not held."""
        async with AsyncExitStack() as held:
            async with self._at_once:
                await held.enter_async_context(self._engine.lock())
            self._is_held.set()
            await self._is_over.wait()


@asynccontextmanager
async def locked(engines: Iterable[Engine], at_once: asyncio.Semaphore) -> AsyncIterator[Mapping[str, PlaceLock]]:
    """Lock every place of these parties once, as long as the context lasts.

    Parameters
    ----------
    at_once
        How many are taken at the same time.

    Returns
    -------
    Mapping
        The lock of each `Engine.lock_place`, those that were refused, too.
    """
    of_place = {engine.lock_place: engine for engine in engines}
    locks = {place: PlaceLock(engine, at_once) for place, engine in of_place.items()}
    try:
        await asyncio.gather(*(lock.answered() for lock in locks.values()))
        yield locks
    finally:
        await asyncio.gather(*(lock.release() for lock in locks.values()))


async def _end(working: asyncio.Future[Result]) -> None:
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
