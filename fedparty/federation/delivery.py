"""One delivery: from the sender's stream into the spool, with bounded memory, readable while it grows.

Owns the overlap of receiving, checksum, writing and syncing. Does not own admission or quota.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import xxhash

from fedparty.federation.objects import SpooledObject
from fedparty.federation.spool import SpoolFile, SpoolWriter
from fedparty.rpc.server import parse
from fedparty.rpc.stream import damaged, next_message
from fedparty.rpc.v1.peer_pb2 import DeliverTrailer

_BATCH_BYTES = 4 << 20
_SYNC_BYTES = 32 << 20

Result = TypeVar("Result")


class Delivery:
    """Takes one object into the spool.

    Parameters
    ----------
    spooled, writer
        The object, and what writes it.
    threads
        Where files are written.
    """

    def __init__(self, spooled: SpooledObject, writer: SpoolWriter, threads: Executor) -> None:
        self._object = spooled
        self._writer = writer
        self._threads = threads
        self._writing: asyncio.Future[Any] | None = None
        self._syncing: asyncio.Future[None] | None = None
        self._synced_bytes = 0

    async def take(self, messages: AsyncIterator[bytes]) -> None:
        """Take the chunks and the trailer; return when the object is on disk.

        Raises
        ------
        RpcError
            ``CHECKSUM_MISMATCH``: size or checksum do not fit.
        OSError
            The disk is full, or broken.
        """
        if self._object.is_small:
            await self._take_at_once(messages)
            return
        await self._take_chunks(messages)
        trailer = await next_message(messages)
        await self._written()
        self._object.set_whole(_checked(self._writer.digest(), trailer))
        self._object.set_on_disk(await self._commit())

    async def discard(self) -> None:
        """Remove what was written, after the threads have let go of it."""
        busy = [future for future in (self._writing, self._syncing) if future is not None]
        if busy:
            await asyncio.wait(busy)
        for future in busy:
            if not future.cancelled():
                future.exception()  # was reported by `take`, or no longer matters
        await self._start(self._writer.discard)

    async def _take_at_once(self, messages: AsyncIterator[bytes]) -> None:
        """Take a small object: readers have it from memory, and a thread writes all of it in one go."""
        chunks = [chunk async for chunk in self._chunks(messages)]
        checksum = _checked(xxhash.xxh3_128_digest(b"".join(chunks)), await next_message(messages))
        self._object.grow(chunks)
        self._object.set_whole(checksum)
        self._writing = writing = self._start(lambda: self._writer.store(chunks))
        self._object.set_on_disk(await asyncio.shield(writing))

    async def _take_chunks(self, messages: AsyncIterator[bytes]) -> None:
        batch: list[bytes] = []
        batch_bytes = 0
        async for chunk in self._chunks(messages):
            batch.append(chunk)
            batch_bytes += len(chunk)
            if batch_bytes >= _BATCH_BYTES:
                await self._written()
                self._write(batch)
                batch, batch_bytes = [], 0
        if batch:
            await self._written()
            self._write(batch)

    async def _chunks(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        missing = self._object.header.size_bytes
        while missing > 0:
            chunk = await next_message(messages)
            missing -= len(chunk)
            if missing < 0 or not chunk:
                raise damaged("an object's chunks do not add up to its size")
            yield chunk

    def _write(self, batch: list[bytes]) -> None:
        self._writing = self._start(lambda: self._writer.append(batch))
        self._writing.add_done_callback(lambda done: self._on_written(done, batch))

    def _on_written(self, done: asyncio.Future[Any], batch: list[bytes]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        self._object.grow(batch)
        available = self._object.available_bytes
        is_syncing = self._syncing is not None and not self._syncing.done()
        if available - self._synced_bytes >= _SYNC_BYTES and not is_syncing:
            self._synced_bytes = available
            read_bytes = self._object.read_bytes
            self._syncing = self._start(lambda: self._writer.sync(read_bytes))

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def _commit(self) -> SpoolFile:
        if self._syncing is not None:
            await asyncio.shield(self._syncing)
        committing = self._start(self._writer.commit)
        self._writing = committing
        return await asyncio.shield(committing)

    def _start(self, function: Callable[[], Result]) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function)


def _checked(checksum: bytes, trailer: bytes) -> bytes:
    """Return the checksum of an object's bytes, which its sender confirms."""
    if parse(DeliverTrailer, trailer).checksum != checksum:
        raise damaged("an object's checksum does not fit its bytes")
    return checksum
