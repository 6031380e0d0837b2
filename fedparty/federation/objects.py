"""Objects as the mailbox knows them in memory: growing, whole, on disk, or failed; and who waits for them.

Owns the states of an object and of a task attempt, and waking whoever waits for a change. Touches no file.
Everything here lives on one event loop; between two awaits nothing changes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from fedparty.errors import RpcError
from fedparty.federation.spool import Descriptor, SpoolFile, SpoolWriter, spool_bytes
from fedparty.rpc.breaking import Breakable
from fedparty.rpc.v1.peer_pb2 import DeliverHeader
from fedparty.types import Member, TaskRun

_RECENT_BYTES = 8 << 20
_SMALL_BYTES = 64 << 10


class Signal:
    """Wakes everybody who waits at that moment."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.waiting = 0

    def fire(self) -> None:
        """Wake whoever waits."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return at the next `fire`."""
        self.waiting += 1
        try:
            await self._event.wait()
        finally:
            self.waiting -= 1


class SpooledObject:
    """One object: growing, then whole (its checksum fits), then on disk; or failed.

    Parameters
    ----------
    header
        Without the token.
    source
        Its writer while it grows, its file afterwards.
    """

    def __init__(self, header: DeliverHeader, source: SpoolWriter | SpoolFile) -> None:
        self.header = header
        self.delivery = Breakable()
        self.quota_bytes = spool_bytes(header.size_bytes)
        self.available_bytes = 0
        self.read_bytes = 0
        self.checksum: bytes | None = None
        self.error: RpcError | None = None
        self._source = source
        self._changed = Signal()
        self._recent: deque[bytes] = deque()
        self._recent_start = 0
        if isinstance(source, SpoolFile):
            self.available_bytes = header.size_bytes
            self.checksum = source.checksum

    @property
    def is_small(self) -> bool:
        """Whether its bytes may stay in memory when they are on disk."""
        return self.header.size_bytes <= _SMALL_BYTES

    @property
    def data_offset(self) -> int:
        """Where its bytes begin in the file."""
        return self._source.data_offset

    @property
    def is_on_disk(self) -> bool:
        """Whether it was acknowledged, or may be now."""
        return isinstance(self._source, SpoolFile)

    def open(self) -> Descriptor:
        """Return the file, whole or growing; some of it must be available.

        Raises
        ------
        FileNotFoundError
            Its task has ended.
        """
        if isinstance(self._source, SpoolFile):
            return self._source.open()
        if self._source.descriptor is None:
            raise FileNotFoundError("nothing of it is written yet")
        return self._source.descriptor

    def grow(self, chunks: Sequence[bytes]) -> None:
        """Note that these chunks were written; the last ones are kept for readers that are close behind."""
        self.available_bytes += sum(map(len, chunks))
        self._recent.extend(chunks)
        while self.available_bytes - self._recent_start > _RECENT_BYTES:
            self._recent_start += len(self._recent.popleft())
        self._changed.fire()

    def recent(self, offset: int) -> list[bytes]:
        """Return the chunks from `offset` on where these are still in memory, else nothing."""
        start = self._recent_start
        for number, chunk in enumerate(self._recent):
            if start == offset:
                return list(islice(self._recent, number, None))
            start += len(chunk)
        return []

    def forget_recent(self) -> None:
        """Let go of what is kept in memory; it is read from the file from now on."""
        self._recent.clear()
        self._recent_start = self.available_bytes

    def set_whole(self, checksum: bytes) -> None:
        """Note that every byte can be read and is right."""
        self.checksum = checksum
        self._changed.fire()

    def set_on_disk(self, file: SpoolFile) -> None:
        """Note that it is safe."""
        self._source = file
        if not self.is_small:
            self.forget_recent()
        self._changed.fire()

    def fail(self, error: RpcError) -> None:
        """Give it up: readers and the delivery end with `error`; the first one counts."""
        if self.error is None:
            self.error = error
            self.forget_recent()
            self.delivery.break_off(error)
            self._changed.fire()

    async def more_than(self, offset: int) -> int:
        """Return how many bytes can be read, as soon as these are more than `offset`.

        Raises
        ------
        RpcError
            It failed.
        """
        while self.available_bytes <= offset:
            await self._change()
        return self.available_bytes

    async def whole(self) -> bytes:
        """Return the checksum as soon as it is whole.

        Raises
        ------
        RpcError
            It failed.
        """
        while self.checksum is None:
            await self._change()
        return self.checksum

    async def on_disk(self) -> None:
        """Return as soon as it is safe.

        Raises
        ------
        RpcError
            It failed.
        """
        while not self.is_on_disk:
            await self._change()

    async def _change(self) -> None:
        self.check()
        await self._changed.wait()
        self.check()

    def check(self) -> None:
        """Raise the error of an object that failed."""
        if self.error is not None:
            raise self.error


class RegisteredRun:
    """The registered attempt of a task with its objects, by file name.

    Parameters
    ----------
    run, members
        As registered.
    objects
        What a restart found.
    """

    def __init__(
        self, run: TaskRun, members: frozenset[Member], objects: Iterable[tuple[str, SpooledObject]] = ()
    ) -> None:
        self.run = run
        self.members = members
        self.objects = dict(objects)
        self._signals: dict[str, Signal] = {}
        self._end: RpcError | None = None

    @property
    def waiting(self) -> int:
        """How many receives wait for an object that has not begun to arrive."""
        return sum(signal.waiting for signal in self._signals.values())

    def add(self, file_name: str, arriving: SpooledObject) -> None:
        """Take in an object that begins to arrive, and wake whoever waits for it."""
        self.objects[file_name] = arriving
        signal = self._signals.get(file_name)
        if signal is not None:
            signal.fire()

    def remove(self, file_name: str, failed: SpooledObject) -> None:
        """Forget an object that failed, unless another delivery took its place."""
        if self.objects.get(file_name) is failed:
            del self.objects[file_name]

    async def arrival(self, file_name: str) -> SpooledObject:
        """Return an object as soon as it begins to arrive.

        Raises
        ------
        RpcError
            The attempt ended before.
        """
        signal = self._signals.setdefault(file_name, Signal())
        try:
            while True:
                self.check()
                found = self.objects.get(file_name)
                if found is not None and found.error is None:
                    return found
                await signal.wait()
        finally:
            if not signal.waiting:
                self._signals.pop(file_name, None)

    def end(self, error: RpcError) -> None:
        """End the attempt: what arrives is broken off, whoever waits gets `error`."""
        self._end = error
        for spooled in self.objects.values():
            spooled.fail(error)
        for signal in self._signals.values():
            signal.fire()

    def check(self) -> None:
        """Raise the error of an attempt that has ended."""
        if self._end is not None:
            raise self._end
