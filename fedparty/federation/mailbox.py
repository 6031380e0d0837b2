"""The mailbox itself: registered attempts, fencing, quota, deliveries, receives. No gRPC, no tokens.

Owns what may be stored and read, by name and attempt. Does not own who calls (see `peer_service`, `local_service`)
nor the files (see `spool`).
"""

from __future__ import annotations

import asyncio
import errno
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fedparty.errors import RpcError
from fedparty.federation import names
from fedparty.federation.delivery import Delivery
from fedparty.federation.objects import RegisteredRun, SpooledObject
from fedparty.federation.spool import Descriptor, Spool, read_chunks
from fedparty.rpc import catalogue
from fedparty.rpc.server import parse
from fedparty.rpc.stream import CHUNK_BYTES, damaged, next_message
from fedparty.rpc.v1.peer_pb2 import DeliverHeader, DeliverTrailer
from fedparty.types import JobId, Member, ObjectName, TaskRun

MAX_OBJECTS = 100_000
"""Of one task attempt."""

_MAX_TOMBSTONES = 10_000
_KEPT_BYTES = 32 << 20
"""Of small objects, in memory besides their files; counted as they count for the quota, at least two blocks each."""
_READ_BYTES = 4 * CHUNK_BYTES
_THREADS = 16
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Statistics:
    """What a mailbox holds now."""

    used_bytes: int
    quota_bytes: int
    objects: int
    tasks: int
    waiting_receives: int


class Mailbox:
    """Objects between the members of task attempts; lives on one event loop.

    Parameters
    ----------
    folder
        The spool.
    quota_bytes
        What the objects of all tasks may take together.

    Raises
    ------
    ConfigurationError
        Another mailbox uses the spool.
    """

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self._spool = Spool(folder)
        self._quota_bytes = quota_bytes
        self._used_bytes = 0
        self._kept: deque[SpooledObject] = deque()
        self._kept_bytes = 0
        self._runs: dict[tuple[JobId, str], RegisteredRun] = {}
        self._tombstones: OrderedDict[tuple[JobId, str], None] = OrderedDict()
        self._registering = asyncio.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "spool")
        self._background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take up what a former mailbox left in the spool."""
        for stored in await self._blocking(self._spool.load):
            objects = {name: SpooledObject(file.header, file) for name, file in stored.objects.items()}
            self._runs[stored.run.job, stored.run.task] = RegisteredRun(stored.run, stored.members, objects.items())
            self._used_bytes += sum(spooled.quota_bytes for spooled in objects.values())
        self._later(self._blocking(self._spool.empty_trash))

    def end_waiting(self) -> None:
        """End deliveries and receives; their callers will try again at the next mailbox."""
        for run in self._runs.values():
            run.end(catalogue.error("SHUTTING_DOWN", "the mailbox is being stopped"))

    async def shut(self) -> None:
        """Let the threads finish; what was not acknowledged is gone."""
        self.end_waiting()
        while self._background:
            await asyncio.wait(self._background)
        self._threads.shutdown()
        self._spool.unlock()

    async def register(self, run: TaskRun, members: frozenset[Member]) -> None:
        """Register an attempt; objects of older ones are dropped and refused from then on.

        Raises
        ------
        RpcError
            ``STALE_ATTEMPT``, ``TASK_ENDED``, or ``BAD_REQUEST``: registered with other members.
        """
        async with self._registering:
            key = (run.job, run.task)
            if key in self._tombstones:
                raise _ended(run)
            older = self._runs.get(key)
            if older is not None and older.run.attempt >= run.attempt:
                return _check_repeated(older, run, members)
            try:
                await self._blocking(lambda: self._spool.save(run, members))
            except OSError as exc:
                raise _error_of(exc, run) from exc
            self._runs[key] = RegisteredRun(run, members)
            if older is not None:
                self._end(older, _stale(older.run, run.attempt))
                await self._blocking(lambda: self._spool.drop_attempt(older.run))
                self._later(self._blocking(self._spool.empty_trash))
        return None

    async def close(self, job: JobId, task: str) -> None:
        """End a task: its objects go, later ones are refused, waiting receives fail."""
        async with self._registering:
            self._bury((job, task))
            run = self._runs.pop((job, task), None)
            if run is not None:
                self._end(run, _ended(run.run))
            await self._blocking(lambda: self._spool.drop_task(job, task))
            self._later(self._blocking(self._spool.empty_trash))

    async def deliver(self, name: ObjectName, header: DeliverHeader, messages: AsyncIterator[bytes]) -> None:
        """Store an object: its chunks and trailer. When this returns it is whole and synced.

        Parameters
        ----------
        header
            Without the token.

        Raises
        ------
        RpcError
            As `peer.Mailbox/Deliver` documents.
        """
        run = self._run_of(name)
        file_name = names.file_name_of(name)
        known = run.objects.get(file_name)
        if known is not None and known.checksum is not None:
            return await _confirm(known, name, header, messages)
        if known is not None:
            self._give_up(run, file_name, known, catalogue.error("DELIVERY_BROKEN", f"{name}: is being sent again"))
        return await self._take(run, name, header, messages)

    async def receive(self, name: ObjectName) -> AsyncIterator[bytes]:
        """Wait for an object and yield its messages: header, chunks, trailer.

        Raises
        ------
        RpcError
            ``NOT_REGISTERED``, ``STALE_ATTEMPT``, ``TASK_ENDED``, or ``DELIVERY_BROKEN`` once it has begun.
        """
        spooled = await self._run_of(name).arrival(names.file_name_of(name))
        yield spooled.header.SerializeToString()
        async for chunk in self._read(spooled):
            yield chunk
        yield DeliverTrailer(checksum=await spooled.whole()).SerializeToString()

    def statistics(self) -> Statistics:
        """Return what the mailbox holds now."""
        runs = self._runs.values()
        return Statistics(
            used_bytes=self._used_bytes,
            quota_bytes=self._quota_bytes,
            objects=sum(len(run.objects) for run in runs),
            tasks=len(runs),
            waiting_receives=sum(run.waiting for run in runs),
        )

    def _run_of(self, name: ObjectName) -> RegisteredRun:
        """Return the registered attempt that an object belongs to; sender and receiver are members of it."""
        key = (name.run.job, name.run.task)
        registered = self._runs.get(key)
        if registered is None:
            raise _ended(name.run) if key in self._tombstones else _not_registered(name.run)
        if registered.run.attempt > name.run.attempt:
            raise _stale(name.run, registered.run.attempt)
        if registered.run.attempt < name.run.attempt:
            raise _not_registered(name.run)
        for member in (name.sender, name.receiver):
            if member not in registered.members:
                raise catalogue.error("NOT_ALLOWED", f"{member} is not a member of {name.run}")
        return registered

    async def _take(
        self, run: RegisteredRun, name: ObjectName, header: DeliverHeader, messages: AsyncIterator[bytes]
    ) -> None:
        file_name = names.file_name_of(name)
        writer = self._spool.writer(run.run, file_name, header)
        spooled = SpooledObject(header, writer)
        self._reserve(run, spooled)
        delivery = Delivery(spooled, writer, self._threads)
        run.add(file_name, spooled)
        try:
            async with spooled.delivery:
                await delivery.take(messages)
            self._keep(spooled)
        except BaseException as exc:
            error = _error_of(exc, name)
            self._give_up(run, file_name, spooled, error)
            self._later(delivery.discard())
            if isinstance(exc, OSError):
                raise error from exc
            raise

    def _keep(self, spooled: SpooledObject) -> None:
        """Leave a small object in memory, where most are read soon; the oldest give way."""
        if not spooled.is_small:
            return
        self._kept.append(spooled)
        self._kept_bytes += spooled.quota_bytes
        while self._kept_bytes > _KEPT_BYTES:
            oldest = self._kept.popleft()
            self._kept_bytes -= oldest.quota_bytes
            oldest.forget_recent()

    async def _read(self, spooled: SpooledObject) -> AsyncIterator[bytes]:
        offset, size = 0, spooled.header.size_bytes
        descriptor = None
        while offset < size:
            available = await spooled.more_than(offset)
            spooled.check()
            chunks = spooled.recent(offset)
            if not chunks:
                descriptor = descriptor or spooled.open()
                count = min(available - offset, _READ_BYTES)
                chunks = await self._blocking(_reader(descriptor, spooled.data_offset + offset, count))
            for chunk in chunks:
                yield chunk
                offset += len(chunk)
            spooled.read_bytes = max(spooled.read_bytes, offset)

    def _reserve(self, run: RegisteredRun, spooled: SpooledObject) -> None:
        if self._used_bytes + spooled.quota_bytes > self._quota_bytes:
            raise catalogue.error(
                "SPOOL_FULL",
                f"the spool's quota is reached: {self._used_bytes} of {self._quota_bytes} bytes are used, "
                f"the object needs {spooled.quota_bytes}",
            )
        if len(run.objects) >= MAX_OBJECTS:
            raise catalogue.error("SPOOL_FULL", f"{run.run} has {MAX_OBJECTS} objects already")
        self._used_bytes += spooled.quota_bytes

    def _give_up(self, run: RegisteredRun, file_name: str, spooled: SpooledObject, error: RpcError) -> None:
        """Fail an object that is arriving; its share of the quota is freed once."""
        if spooled.error is None:
            self._used_bytes -= spooled.quota_bytes
        spooled.fail(error)
        run.remove(file_name, spooled)

    def _end(self, run: RegisteredRun, error: RpcError) -> None:
        self._used_bytes -= sum(spooled.quota_bytes for spooled in run.objects.values() if spooled.error is None)
        run.end(error)

    def _bury(self, key: tuple[JobId, str]) -> None:
        self._tombstones[key] = None
        if len(self._tombstones) > _MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)

    async def _blocking(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _confirm(
    known: SpooledObject, name: ObjectName, header: DeliverHeader, messages: AsyncIterator[bytes]
) -> None:
    """Answer a delivery of an object that is here already: the same bytes are welcome, others are not."""
    conflict = catalogue.error("OBJECT_CONFLICT", f"{name}: was sent before with other bytes")
    if header != known.header:
        raise conflict
    missing = header.size_bytes
    while missing > 0:
        chunk = await next_message(messages)
        missing -= len(chunk) or missing + 1
    if missing:
        raise damaged("an object's chunks do not add up to its size")
    if parse(DeliverTrailer, await next_message(messages)).checksum != known.checksum:
        raise conflict
    await known.on_disk()


def _reader(descriptor: Descriptor, offset: int, size_bytes: int) -> Callable[[], list[bytes]]:
    return lambda: read_chunks(descriptor, offset, size_bytes)


def _check_repeated(registered: RegisteredRun, run: TaskRun, members: frozenset[Member]) -> None:
    if registered.run.attempt > run.attempt:
        raise _stale(run, registered.run.attempt)
    if registered.members != members:
        raise catalogue.error("BAD_REQUEST", f"{run} is registered with other members")


def _error_of(exc: BaseException, name: ObjectName | TaskRun) -> RpcError:
    """Return what is said about an object, or an attempt, that could not be stored."""
    if isinstance(exc, OSError) and exc.errno in _DISK_FULL:
        return catalogue.error("SPOOL_FULL", f"{name}: the spool's disk is full")
    if isinstance(exc, OSError):
        return catalogue.error("INTERNAL", f"{name}: the spool cannot be written: {exc.strerror}")
    return catalogue.error("DELIVERY_BROKEN", f"{name}: the sender broke off")


def _ended(run: TaskRun) -> RpcError:
    return catalogue.error("TASK_ENDED", f"{run.job}/{run.task} has ended here")


def _stale(run: TaskRun, newer: int) -> RpcError:
    return catalogue.error("STALE_ATTEMPT", f"{run}: attempt {newer} has begun here")


def _not_registered(run: TaskRun) -> RpcError:
    return catalogue.error("NOT_REGISTERED", f"{run} is not registered here")
