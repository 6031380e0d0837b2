"""Files and folders of this machine, as a transport handles them.

Owns copies, renames and private folders. Knows nothing of bundles or commands.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fedparty.deploy.transport.base import FileState, OnProgress
from fedparty.errors import DeployError

_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what the operating system says into an error with the machine and the path.

    Raises
    ------
    DeployError
        A path could not be used.
    """
    try:
        yield
    except OSError as exc:
        raise DeployError(f"{place}: {exc.filename}: {exc.strerror}") from exc


def read(path: Path) -> bytes | None:
    """Return a file's content; None where there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[BinaryIO]:
    """Yield a private file that becomes `path` when the context ends well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all it contains."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Rename a file over another, whose folder is made if absent."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.replace(target)


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder."""
    return path.is_dir()


def rename(source: Path, target: Path, place: str) -> None:
    """Give a file or folder another name; a file that has that name is replaced."""
    with explained(place):
        source.rename(target)


def make_private(folder: Path, place: str) -> None:
    """Make a folder that only this user enters.

    Raises
    ------
    DeployError
        It exists and is a link, not a folder, or somebody else's.
    PermissionError
        This user may not make it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or os.geteuid() not in (0, found.st_uid):
            raise DeployError(
                f"{place}: {folder}: is not a folder of this user", hint="Look who made it; remove it."
            ) from None
        folder.chmod(0o700)


def listing(folder: Path) -> dict[str, FileState] | None:
    """Return every regular file below a folder; None where there is no such folder."""
    if not folder.is_dir():
        return None
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): _state(path) for path in files}


def digest(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder beside `target`, then put it in its place."""
    staged = target.with_name(f"{target.name}.new")
    remove(staged)
    _copy_folder(source, staged)
    remove(target)
    staged.rename(target)


def copy_file(source: Path, target: Path, on_progress: OnProgress) -> None:
    """Copy a file, 0600, by one rename at its end."""
    total, copied = source.stat().st_size, 0
    with source.open("rb") as reader, replacement(target) as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            copied += writer.write(chunk)
            on_progress(copied, total)


def require_plain(entry: Path) -> None:
    """Refuse what a bundle never holds.

    Raises
    ------
    DeployError
        It is a link, or neither a file nor a folder.
    """
    if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
        raise DeployError(f"{entry}: a bundle holds files and folders only", hint="Run generate_config.py again.")


def _state(path: Path) -> FileState:
    return FileState(path.stat().st_mode & 0o7777, digest(path))


def _copy_folder(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700, parents=True)
    for entry in sorted(source.iterdir()):
        require_plain(entry)
        if entry.is_dir():
            _copy_folder(entry, target / entry.name)
        else:
            _copy_with_mode(entry, target / entry.name)


def _copy_with_mode(source: Path, target: Path) -> None:
    mode = source.stat().st_mode & 0o777
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file, source.open("rb") as reader:
        shutil.copyfileobj(reader, file)
        os.fchmod(file.fileno(), mode)
