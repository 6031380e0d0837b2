"""The spool: registrations and objects as files, each synced before it counts.

    lock                               held by the mailbox that owns the spool
    tasks/<job>.<task>/run.json        the registered attempt and its members
    tasks/<job>.<task>/<attempt>/<digest>.object    header, bytes, checksum; `.part` while it grows
    trash/                             what is being removed

Owns the files; every function blocks. Does not own who may read or write them, nor what a task is.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash
from google.protobuf.message import DecodeError

from fedparty.crypto.files import make_private_folder, replace_file
from fedparty.errors import ConfigurationError
from fedparty.rpc.stream import CHECKSUM_BYTES, CHUNK_BYTES
from fedparty.rpc.v1.peer_pb2 import DeliverHeader
from fedparty.types import TASK_NAME, JobId, Member, TaskRun, parse_job_id

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 4096
_PREFIX = struct.Struct("<8sI")
_MAGIC = b"fpobj\0\0\1"


class Descriptor:
    """An open file that is closed when nobody uses it any more, threads included."""

    __slots__ = ("number",)

    def __init__(self, path: Path, flags: int) -> None:
        self.number = -1
        self.number = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


@dataclass(frozen=True)
class SpoolFile:
    """A whole object in the spool; its bytes begin at `data_offset`."""

    path: Path
    header: DeliverHeader
    checksum: bytes
    data_offset: int

    def open(self) -> Descriptor:
        """Open it for reading.

        Raises
        ------
        FileNotFoundError
            Its task has ended.
        """
        return Descriptor(self.path, os.O_RDONLY)


@dataclass(frozen=True)
class StoredRun:
    """What was registered before a restart, and the objects that were acknowledged."""

    run: TaskRun
    members: frozenset[Member]
    objects: dict[str, SpoolFile]


class SpoolWriter:
    """Writes one object. Its methods block; only `sync` may run beside another.

    Parameters
    ----------
    folder, file_name
        The attempt's folder, and the name without suffix.
    header
        Without the token.
    """

    def __init__(self, folder: Path, file_name: str, header: DeliverHeader) -> None:
        self._part = folder / f"{file_name}.{secrets.token_hex(4)}.part"
        self._path = folder / f"{file_name}.object"
        self._header = header
        self._prefix = _prefix_of(header)
        self._checksum = xxhash.xxh3_128()
        self._end = len(self._prefix)
        self.data_offset = len(self._prefix)
        self.descriptor: Descriptor | None = None

    def append(self, chunks: list[bytes]) -> None:
        """Write the next bytes of the object."""
        if self.descriptor is None:
            self._open()
        for chunk in chunks:
            self._checksum.update(chunk)
        self._write(chunks)

    def store(self, chunks: list[bytes]) -> SpoolFile:
        """Write the whole object, and give it its name: it is on disk when this returns."""
        self.append(chunks)
        return self.commit()

    def digest(self) -> bytes:
        """Return the checksum of what was appended."""
        return self._checksum.digest()

    def sync(self, done_offset: int) -> None:
        """Bring to disk what was appended, and let the bytes before `done_offset`, read already, go from memory."""
        if self.descriptor is None:
            return
        os.fdatasync(self.descriptor.number)
        if done_offset:
            os.posix_fadvise(self.descriptor.number, 0, self.data_offset + done_offset, os.POSIX_FADV_DONTNEED)

    def commit(self) -> SpoolFile:
        """Give the object its name, for good: it is on disk when this returns."""
        if self.descriptor is None:
            self._open()
        checksum = self.digest()
        self._write([checksum])
        self.sync(0)
        self._part.rename(self._path)
        _sync_folder(self._path.parent)
        return SpoolFile(self._path, self._header, checksum, self.data_offset)

    def discard(self) -> None:
        """Remove what was written."""
        self._part.unlink(missing_ok=True)

    def _open(self) -> None:
        self.descriptor = Descriptor(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.pwrite(self.descriptor.number, self._prefix, 0)

    def _write(self, chunks: Sequence[bytes | memoryview]) -> None:
        if self.descriptor is None:
            raise ValueError("not open")
        left = list(chunks)
        while left:
            written = os.pwritev(self.descriptor.number, left, self._end)
            self._end += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = memoryview(left[0])[written:]


class Spool:
    """The folder of one mailbox.

    Parameters
    ----------
    folder
        Made if absent; belongs to one mailbox at a time.

    Raises
    ------
    ConfigurationError
        Another process uses it.
    """

    def __init__(self, folder: Path) -> None:
        self._tasks = folder / "tasks"
        self._trash = folder / "trash"
        make_private_folder(folder)
        self._lock = _lock(folder)
        make_private_folder(self._tasks)
        make_private_folder(self._trash)

    def unlock(self) -> None:
        """Leave the spool to the next mailbox."""
        fcntl.flock(self._lock.number, fcntl.LOCK_UN)

    def load(self) -> list[StoredRun]:
        """Return what survived, and remove what was never acknowledged."""
        runs = []
        for folder in self._tasks.iterdir():
            run = _read_run(folder)
            if run is None:
                self._discard(folder)
            else:
                runs.append(self._load_run(folder, *run))
        return runs

    def save(self, run: TaskRun, members: frozenset[Member]) -> None:
        """Register an attempt in place of an older one."""
        folder = self._folder_of(run.job, run.task)
        is_new = not folder.exists()
        make_private_folder(folder)
        make_private_folder(folder / str(run.attempt))
        content = {"attempt": run.attempt, "members": sorted(map(str, members))}
        replace_file(folder / "run.json", json.dumps(content).encode(), mode=0o600)
        if is_new:
            _sync_folder(self._tasks)

    def drop_attempt(self, run: TaskRun) -> None:
        """Remove the objects of an attempt that was replaced."""
        self._discard(self._folder_of(run.job, run.task) / str(run.attempt))

    def drop_task(self, job: JobId, task: str) -> None:
        """Remove a task with its registration; gone for good when this returns, the space shortly after."""
        self._discard(self._folder_of(job, task))
        _sync_folder(self._tasks)

    def empty_trash(self) -> None:
        """Free the space of what was dropped."""
        for folder in self._trash.iterdir():
            shutil.rmtree(folder, ignore_errors=True)

    def writer(self, run: TaskRun, file_name: str, header: DeliverHeader) -> SpoolWriter:
        """Return the writer of a new object; nothing is written yet."""
        return SpoolWriter(self._folder_of(run.job, run.task) / str(run.attempt), file_name, header)

    def _folder_of(self, job: JobId, task: str) -> Path:
        return self._tasks / f"{job}.{task}"

    def _discard(self, path: Path) -> None:
        """Move `path` out of the way in one step, so that a crash leaves no half of it."""
        if path.exists():
            path.rename(self._trash / secrets.token_hex(16))

    def _load_run(self, folder: Path, run: TaskRun, members: frozenset[Member]) -> StoredRun:
        for child in folder.iterdir():
            if child.is_dir() and child.name != str(run.attempt):
                self._discard(child)
        return StoredRun(run, members, dict(_load_objects(folder / str(run.attempt))))


def spool_bytes(size_bytes: int) -> int:
    """Return what an object of `size_bytes` takes of the quota."""
    return -(-(size_bytes + CHECKSUM_BYTES) // _BLOCK_BYTES) * _BLOCK_BYTES + _BLOCK_BYTES


def read_chunks(descriptor: Descriptor, offset: int, size_bytes: int) -> list[bytes]:
    """Read `size_bytes` from `offset` of the file, in chunks.

    Raises
    ------
    OSError
        The file is shorter.
    """
    chunks = []
    end = offset + size_bytes
    while offset < end:
        chunk = os.pread(descriptor.number, min(CHUNK_BYTES, end - offset), offset)
        if not chunk:
            raise OSError("an object's file is shorter than its header says")
        chunks.append(chunk)
        offset += len(chunk)
    return chunks


def _prefix_of(header: DeliverHeader) -> bytes:
    serialized = header.SerializeToString()
    prefix = _PREFIX.pack(_MAGIC, len(serialized)) + serialized
    return prefix.ljust(-(-len(prefix) // _BLOCK_BYTES) * _BLOCK_BYTES, b"\0")


def _load_objects(folder: Path) -> Iterator[tuple[str, SpoolFile]]:
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in folder.iterdir():
        stored = _read_object(path) if path.suffix == ".object" else None
        if stored is None:
            path.unlink()
        else:
            yield path.stem, stored


def _read_object(path: Path) -> SpoolFile | None:
    """Read an object's header and checksum; None for a file that no mailbox wrote."""
    with path.open("rb") as file:
        start = file.read(_PREFIX.size).ljust(_PREFIX.size, b"\0")
        magic, length = _PREFIX.unpack(start)
        try:
            header = DeliverHeader.FromString(file.read(length)) if magic == _MAGIC else DeliverHeader()
        except DecodeError:
            magic = b""
        offset = len(_prefix_of(header)) if magic == _MAGIC else 0
        if not offset or path.stat().st_size != offset + header.size_bytes + CHECKSUM_BYTES:
            logger.error("%s: not an object of this mailbox; removed", path)
            return None
        file.seek(-CHECKSUM_BYTES, os.SEEK_END)
        return SpoolFile(path, header, file.read(), offset)


def _read_run(folder: Path) -> tuple[TaskRun, frozenset[Member]] | None:
    """Read a registration; None for one that was never finished."""
    job, _, task = folder.name.partition(".")
    try:
        content = json.loads((folder / "run.json").read_bytes())
        members = frozenset(map(Member.parse, content["members"]))
        attempt = int(content["attempt"])
        if TASK_NAME.fullmatch(task):
            return TaskRun(parse_job_id(job), task, attempt), members
    except (OSError, KeyError, TypeError, ValueError) as exc:
        logger.error("%s: no registration can be read; removed: %s", folder, exc)
    return None


def _lock(folder: Path) -> Descriptor:
    descriptor = Descriptor(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise ConfigurationError(
            f"{folder}: another mailbox uses this spool", hint="Stop the federation service that runs already."
        ) from exc
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = Descriptor(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor.number)
