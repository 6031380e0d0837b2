"""Blocks that somebody else may break off with an error, e.g. the stream of a caller whose certificate was revoked.

Owns the hand-over from a cancellation to an error. Does not own the reasons.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self, cast

from fedparty.errors import FedpartyError


class Breakable:
    """An ``async with`` block that `break_off` ends with an error. Used once."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._error: FedpartyError | None = None

    def break_off(self, error: FedpartyError) -> None:
        """Raise `error` out of the block, at its next await; the first error counts. Nothing happens once it ended."""
        if self._error is None and self._task is not None:
            self._error = error
            self._task.cancel()

    async def __aenter__(self) -> Self:
        self._task = cast(asyncio.Task[Any], asyncio.current_task())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        task, self._task = cast(asyncio.Task[Any], self._task), None
        if self._error is None:
            return
        if kind is None or not issubclass(kind, asyncio.CancelledError):
            await _take_pending_cancellation()
        if task.uncancel() == 0:
            raise self._error from (None if kind is asyncio.CancelledError else exc)


async def _take_pending_cancellation() -> None:
    """Receive the cancellation here that would otherwise hit whatever is awaited after the block."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return
