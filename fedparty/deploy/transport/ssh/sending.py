"""A file that arrives over connections that break.

Owns where a transfer goes on, how often it is begun again, and its check. Does not own connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path, PurePath

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from fedparty.deploy.commands import Command
from fedparty.deploy.transport import local_files
from fedparty.deploy.transport.base import Completed, OnProgress, Source
from fedparty.deploy.transport.ssh import archive, scripts
from fedparty.deploy.transport.ssh.connection import ConnectionLostError
from fedparty.errors import DeployError

_CONNECTIONS = 6
_WAIT_MIN_S, _WAIT_MAX_S = 0.5, 8.0

Run = Callable[[Command, Source | None], Awaitable[Completed]]


class Sending:
    """One file on its way to `target`; until it is whole it has another name there."""

    def __init__(self, run: Run, source: Path, target: PurePath, place: str, on_progress: OnProgress | None) -> None:
        self._run = run
        self._source = source
        self._target = target
        self._part = target.with_name(f"{target.name}.part")
        self._place = place
        self._on_progress = on_progress
        self._size_bytes = source.stat().st_size

    async def send(self) -> None:
        """Send what is missing, and check the whole."""
        digest = asyncio.create_task(asyncio.to_thread(local_files.digest, self._source))
        try:
            await self._append_until_whole()
            if not await self._finish(await digest):
                # What was there was of another file: once more, from its first byte.
                await self._append_until_whole()
                if not await self._finish(await digest):
                    raise DeployError(
                        f"{self._place}: {self._target} is not what was sent", hint="Look after the machine's disk."
                    )
        finally:
            digest.cancel()

    async def _append_until_whole(self) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ConnectionLostError),
            stop=stop_after_attempt(_CONNECTIONS),
            wait=wait_exponential(min=_WAIT_MIN_S, max=_WAIT_MAX_S),
            reraise=True,
        ):
            with attempt:
                await self._append()

    async def _append(self) -> None:
        there = int((await self._checked(scripts.partial_size(self._part))).output)
        if there > self._size_bytes:
            await self._checked(scripts.remove(self._part))
            there = 0
        loop = asyncio.get_running_loop()

        def chunks() -> Iterator[bytes]:
            sent = there
            for chunk in archive.chunks(self._source, there):
                yield chunk
                sent += len(chunk)
                if self._on_progress is not None:
                    loop.call_soon_threadsafe(self._on_progress, sent, self._size_bytes)

        await self._checked(scripts.append(self._part), chunks())

    async def _finish(self, digest: str) -> bool:
        done = await self._run(scripts.finish(self._part, self._target, digest), None)
        return done.code != scripts.DIFFERENT and bool(done.require(f"{self._place}: {self._target}"))

    async def _checked(self, command: Command, source: Source | None = None) -> Completed:
        return (await self._run(command, source)).require(f"{self._place}: {self._target}")
