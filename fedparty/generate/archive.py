"""A bundle as one file that can be carried: ``confs-<id>.tar.gz``.

Owns the form of the archive: the same files give the same bytes. Does not own which files there are.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

_LEVEL = 1  # 25 times as fast as the best one, for a tenth more bytes
_FOLDER_MODE = 0o755


def pack(name: str, files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """Return the archive of a folder `name` with these files: path -> (content, mode).

    Sorted, without times, owners or anything else of the machine that makes it.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted(_folders(name, files)):
            archive.addfile(_member(folder, _FOLDER_MODE, kind=tarfile.DIRTYPE))
        for path, (content, mode) in sorted(files.items()):
            member = _member(f"{name}/{path}", mode)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), _LEVEL, mtime=0)


def _folders(name: str, paths: Iterable[str]) -> set[str]:
    return {str(folder) for path in paths for folder in PurePosixPath(name, path).parents if folder.name}


def _member(path: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.mode, member.type = mode, kind
    return member
