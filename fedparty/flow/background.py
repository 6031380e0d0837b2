"""Work that goes on beside the calls, each piece once for its key.

Owns keeping, cancelling and ending it, and recording what nobody foresaw. Does not own what is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, TypeVar

from fedparty.errors import DatabaseError
from fedparty.rpc.logging import log_context

logger = logging.getLogger(__name__)

_BACKOFF_S, _MAX_BACKOFF_S = 0.2, 10.0

Value = TypeVar("Value")


class Background:
    """Tasks by key."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    def keep(self, key: Hashable, work: Coroutine[Any, Any, None], **fields: str) -> None:
        """Do `work`, unless the same key's is being done; `fields` go to its log lines."""
        known = self._tasks.get(key)
        if known is not None and not known.cancelling():
            work.close()
            return
        self._tasks[key] = task = asyncio.create_task(_bounded(work, fields))
        task.add_done_callback(lambda ended: self._forget(key, ended))

    def cancel(self, key: Hashable) -> None:
        """Break off a key's work, if there is any; not when called from within it."""
        task = self._tasks.get(key)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def close(self) -> None:
        """Break off everything."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, key: Hashable, ended: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is ended:
            del self._tasks[key]


async def until_recorded(write: Callable[[], Awaitable[Value]]) -> Value:
    """Repeat what must get into the database until it is there: a full disk must not keep a job open for ever."""
    return await _until_done(write, "recorded later")


async def until_read(read: Callable[[], Awaitable[Value]]) -> Value:
    """Repeat what must be known from the database until it is: nothing goes on without."""
    return await _until_done(read, "read later")


async def _until_done(ask: Callable[[], Awaitable[Value]], when: str) -> Value:
    backoff_s = _BACKOFF_S
    while True:
        try:
            return await ask()
        except DatabaseError as exc:
            logger.error("%s: %s", when, exc.message)
        await asyncio.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)


async def _bounded(work: Coroutine[Any, Any, None], fields: dict[str, str]) -> None:
    with log_context(**fields):
        try:
            await work
        except Exception:  # the boundary of one background task
            logger.exception("unforeseen error in the background")
