"""A folder as one stream, and a file as chunks.

Owns the tar format of an upload. Sends nothing.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from fedparty.deploy.transport.local_files import require_plain

_CHUNK_BYTES = 1 << 18
_END = bytes(2 * tarfile.BLOCKSIZE)


def chunks(file: Path, start: int = 0) -> Iterator[bytes]:
    """Yield a file's content from a position on."""
    with file.open("rb") as reader:
        reader.seek(start)
        while chunk := reader.read(_CHUNK_BYTES):
            yield chunk


def pack(folder: Path, last: str) -> Iterator[bytes]:
    """Yield the archive of what is in a folder; an empty file `last` ends it, so that its receiver sees its end."""
    for path in sorted(folder.rglob("*")):
        require_plain(path)
        yield from _entry(path, str(path.relative_to(folder)))
    yield _header(last, mode=0o600, size_bytes=0)
    yield _END


def _entry(path: Path, name: str) -> Iterator[bytes]:
    found = path.stat()
    if path.is_dir():
        yield _header(name, mode=0o700, size_bytes=0, kind=tarfile.DIRTYPE)
        return
    yield _header(name, mode=found.st_mode & 0o777, size_bytes=found.st_size)
    yield from chunks(path)
    yield bytes(-found.st_size % tarfile.BLOCKSIZE)


def _header(name: str, *, mode: int, size_bytes: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return an entry's header, of no owner and no time."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size, entry.type = mode, size_bytes, kind
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
