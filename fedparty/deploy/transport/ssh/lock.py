"""The lock of a folder on the machine, which outlives a connection.

Owns when it is taken again and when it counts as lost. Does not own its text, nor the script that holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import PurePath

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential

from fedparty.deploy.transport import holder
from fedparty.deploy.transport.ssh import scripts
from fedparty.deploy.transport.ssh.connection import ConnectionLostError
from fedparty.deploy.transport.ssh.running import Ended, Read, Runner
from fedparty.deploy.transport.streams import read_lines
from fedparty.errors import DeployError

_BEAT_S = 15.0
"""How often a deployer says that it lives; see `scripts.LOCK_LASTS_S`."""

_AGAIN_WITHIN_S = scripts.LOCK_LASTS_S + _BEAT_S
"""How long a lock is tried to be had again: until the machine has surely ended the session that was lost."""

_WAIT_MIN_S, _WAIT_MAX_S = 0.5, 4.0


class FolderLock:
    """Held by a command on the machine, as long as this deployer says that it lives.

    Where the connection is lost, the lock is taken again over a new one, if nobody else took it in between.
    """

    def __init__(self, runner: Runner, folder: PurePath, place: str) -> None:
        self._runner = runner
        self._folder = folder
        self._place = place
        self._text = holder.describe_self()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold it; what runs in the context is cancelled where it is lost.

        Raises
        ------
        DeployError
            Somebody else holds it, it cannot be taken, or it was lost.
        """
        is_held = asyncio.Event()
        keeping = asyncio.create_task(self._keep(is_held))
        try:
            await _either(is_held, keeping)
            async with ends_with(keeping):
                yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self, is_held: asyncio.Event) -> None:
        """Hold it until this is cancelled; ends with the error that says why it is not held."""
        session = await self._take()
        is_held.set()
        try:
            while True:
                await session.until_connection_lost()
                session = await self._take_again()
        except DeployError as exc:
            raise DeployError(f"the lock was lost: {exc.message}", hint=exc.hint) from exc
        finally:
            await session.end()

    async def _take(self) -> _Session:
        session = _Session(self._runner, self._folder, self._place, self._text)
        try:
            await session.require_mine()
        except BaseException:
            await session.end()
            raise
        return session

    async def _take_again(self) -> _Session:
        """Take it when this deployer's lost session has ended there, unless somebody else was faster."""
        return await AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_delay(_AGAIN_WITHIN_S),
            wait=wait_exponential(multiplier=_WAIT_MIN_S, max=_WAIT_MAX_S),
            reraise=True,
        )(self._take)


class _HeldError(DeployError):
    """Somebody holds the lock, `is_other`: not a session of this deployer that is about to end."""

    def __init__(self, message: str, *, hint: str, is_other: bool) -> None:
        super().__init__(message, hint=hint)
        self.is_other = is_other


def _may_pass(exc: BaseException) -> bool:
    """Tell whether it may go better the next time: the machine may be reached, the own session be ended."""
    return isinstance(exc, DeployError) and not (isinstance(exc, _HeldError) and exc.is_other)


class _Session:
    """One session on the machine that holds the lock, or is told who does."""

    def __init__(self, runner: Runner, folder: PurePath, place: str, text: str) -> None:
        self._runner = runner
        self._folder = folder
        self._place = place
        self._text = text
        self._release = threading.Event()
        self._answer: asyncio.Queue[str] = asyncio.Queue()
        self._is_mine = False
        self._holding = asyncio.create_task(self._hold())

    async def require_mine(self) -> None:
        """Wait until the machine says that the lock is held here.

        Raises
        ------
        DeployError
            It says something else.
        """
        answering = asyncio.create_task(self._answer.get())
        try:
            await asyncio.wait({self._holding, answering}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answering.cancel()
        if not answering.done():
            errors = (await self._holding).errors.strip()
            raise DeployError(f"{self._place}: {self._folder}: cannot be locked: {errors}")
        if answering.result() != "mine":
            await self._holding
            raise self._held_by("" if self._answer.empty() else self._answer.get_nowait())
        self._is_mine = True

    async def until_connection_lost(self) -> None:
        """Wait until the connection is lost.

        Raises
        ------
        DeployError
            The lock ended though the connection is there.
        """
        try:
            await asyncio.shield(self._holding)
        except ConnectionLostError:
            return
        raise DeployError(f"{self._place}: {self._folder}: what held it was ended", hint="Run this again.")

    async def end(self) -> None:
        """Let go of the lock; what is still on its way to it is given up."""
        self._release.set()
        if not self._is_mine:
            self._holding.cancel()
        await asyncio.gather(self._holding, return_exceptions=True)

    async def _hold(self) -> Ended:
        def beats() -> Iterator[bytes]:
            while not self._release.wait(_BEAT_S):
                yield b"."

        async def take(read: Read) -> None:
            await read_lines(read, self._answer.put_nowait)
            self._release.set()  # it ended: nobody hears the beats

        return await self._runner.run(scripts.hold_lock(self._folder, self._text), take, source=beats())

    def _held_by(self, text: str) -> _HeldError:
        error = holder.is_held(self._folder, self._place, text)
        # A session that ends empties the text a moment before it frees the lock.
        return _HeldError(error.message, hint=error.hint, is_other=text not in ("", self._text))


@contextlib.asynccontextmanager
async def ends_with(task: asyncio.Task[None]) -> AsyncIterator[None]:
    """Cancel what runs in the context when the task ends first, and raise the task's error."""
    owner = asyncio.current_task()
    assert owner is not None  # noqa: S101  # this is a coroutine
    cancelled_before = owner.cancelling()
    is_ended = False

    def cancel(_: object) -> None:
        nonlocal is_ended
        is_ended = True
        owner.cancel()

    task.add_done_callback(cancel)
    try:
        yield
    except BaseException as exc:
        if is_ended and owner.uncancel() <= cancelled_before and isinstance(exc, asyncio.CancelledError):
            await task
        raise
    finally:
        task.remove_done_callback(cancel)


async def _either(event: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Wait for an event; raises the error of the task that would set it and ended instead."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if not event.is_set():
        await task
