"""The audit log's file: appended, synced, never rewritten.

Owns the file and the order of entries, also where two flows of one party share it. Does not own the form of a line
(`chain`), nor what is written.

An entry is on disk when `record` returns. Entries that come at once share one sync. The database learns of the new end
after the file has it: a crash between the two leaves the file ahead, which is no fault. What the database keeps moves
on along a chain that holds only: a file that somebody changed is written on, but stays found out.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from fedparty.crypto.files import PRIVATE_FOLDER_MODE, SECRET_MODE
from fedparty.errors import DatabaseError, FedpartyError, RpcError
from fedparty.flow.audit import chain
from fedparty.flow.audit.chain import Entry, Head, Verdict
from fedparty.flow.audit.store import AuditStore
from fedparty.flow.leadership.term import ALONE, Term

logger = logging.getLogger(__name__)

_BLOCK = 65536
_LOCK_WAIT_S, _LOCK_POLL_S = 5.0, 0.01
Value = TypeVar("Value")
_Waiting = tuple[Entry, float, asyncio.Future[None]]


class Audit:
    """The log of one party.

    Parameters
    ----------
    path
        The file; it is made where it is absent.
    store
        Where its head is kept besides.
    term
        In which this process may write it.
    """

    def __init__(self, path: Path, store: AuditStore, term: Term = ALONE) -> None:
        self._term = term
        self._path = path
        self._store = store
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._last: Head | None = None
        self._fault = ""

    @property
    def fault(self) -> str:
        """What was found wrong with the file since the start of this process; empty: nothing."""
        return self._fault

    async def record(self, entry: Entry) -> None:
        """Write an entry down; it is on disk when this returns.

        Raises
        ------
        DatabaseError
            It cannot be written: what it is about must not happen.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, time.time(), done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await done

    async def note(self, entry: Entry) -> None:
        """Write an entry down about what happens in any case; a file that cannot be written is told in the log."""
        try:
            await self.record(entry)
        except DatabaseError as exc:
            logger.error("%s; the entry was: %s", exc.message, entry)

    async def newest(self, count: int) -> list[bytes]:
        """Return the last lines, oldest first.

        Raises
        ------
        DatabaseError
            The file cannot be read.
        """
        return await self._in_a_thread(lambda: self._newest(count))

    async def verify(self) -> Verdict:
        """Check every line of the file against the one before it, and its end against the database.

        Raises
        ------
        DatabaseError
            File or database cannot be read.
        """
        known = await self._store.head()
        verdict = await self._in_a_thread(lambda: self._verify(known))
        self._find(verdict.fault)
        return verdict

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._writing is not None:
            await self._writing

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    await self._write(batch)
                finally:
                    _end(batch, DatabaseError(f"the audit log {self._path} was not written: the service is ending"))
        finally:
            self._writing = None

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._term.check()
            before, head = await self._in_a_thread(lambda: self._append([(entry, at) for entry, at, _ in batch]))
        except (DatabaseError, RpcError) as exc:
            _end(batch, exc)
            return
        try:
            if await self._continues(before):
                await self._store.keep(head)
                self._last = head
        except DatabaseError as exc:
            logger.warning("the database does not know the audit log's end yet: %s", exc.message)
        _end(batch, None)

    async def _continues(self, before: Head) -> bool:
        """Return whether the file, up to this head, is the one that was written."""
        if self._fault:
            return False
        if before == self._last or before == await self._store.head():
            return True
        return not (await self.verify()).fault  # after a start, or where the other replica wrote

    def _find(self, fault: str) -> None:
        if fault and fault != self._fault:
            logger.error("the audit log %s was changed: %s", self._path, fault)
        self._fault = fault

    def _append(self, entries: Sequence[tuple[Entry, float]]) -> tuple[Head, Head]:
        """Write entries; return the head before and after them."""
        self._path.parent.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)  # a volume's root is Docker's
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, SECRET_MODE)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            self._lock(file, fcntl.LOCK_EX)
            size, before = self._end(file)
            lines, head = [], before
            for entry, at in entries:
                line, head = chain.append(head, entry, at)
                lines.append(line)
            try:
                _write_whole(file, b"".join(lines))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)  # a full disk: what was not acknowledged is not there
                raise
            return before, head

    def _lock(self, file: BinaryIO, how: int) -> None:
        """Lock the file against the other replica of this flow, which may have been stopped with the lock."""
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise DatabaseError(
                        f"the audit log {self._path} has been locked by another process for {_LOCK_WAIT_S:g} s",
                        hint=f"A replica of the flow was stopped while it wrote: end it. Which one: lslocks, or fuser "
                        f"{self._path}.",
                    ) from None
                time.sleep(_LOCK_POLL_S)  # flock cannot wait for a limited time
            else:
                return

    def _end(self, file: BinaryIO) -> tuple[int, Head]:
        """Return the size of the file and its head; a line that a crash cut off was acknowledged to nobody."""
        tail, size = b"", file.seek(0, os.SEEK_END)
        at = size
        while at and tail[:-1].count(b"\n") < 1:
            step = min(_BLOCK, at)
            at -= step
            file.seek(at)
            tail = file.read(step) + tail
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) < len(tail):
            logger.warning("%s: the last line was cut off by a crash and is taken away", self._path)
            size -= len(tail) - len(whole)
            file.truncate(size)
        last = whole.rstrip(b"\n").rpartition(b"\n")[2]
        try:
            return size, chain.head_after(last) if last else Head()
        except ValueError as exc:
            raise DatabaseError(
                f"the audit log {self._path} is damaged: {exc}",
                hint="Keep the file for whoever examines it (fedparty audit verify), and move it away.",
            ) from exc

    def _newest(self, count: int) -> list[bytes]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            return list(deque(file, maxlen=count))

    def _verify(self, known: Head) -> Verdict:
        if not self._path.exists():
            return chain.verify((), known)
        with self._path.open("rb") as file:
            self._lock(file, fcntl.LOCK_SH)
            return chain.verify(file, known)

    async def _in_a_thread(self, work: Callable[[], Value]) -> Value:
        try:
            return await asyncio.to_thread(work)
        except OSError as exc:
            raise DatabaseError(
                f"the audit log {self._path} cannot be used: {exc.strerror or exc}",
                hint="Look at the disk and at the file's rights: without its audit log this party does nothing new.",
            ) from exc


def _end(batch: Sequence[_Waiting], error: FedpartyError | None) -> None:
    """Tell those who wait, and were not told yet."""
    for *_, done in batch:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(DatabaseError(error.message, hint=error.hint))


def _write_whole(file: BinaryIO, content: bytes) -> None:
    while content:
        content = content[file.write(content) :]
