"""A job's own code: the modules below its folder ``custom/``, as one archive.

Owns which files may be in it, packing them, and reading an archive that a stranger made. Does not own who may run it
(the site's policy), nor where it is unpacked (`fedparty.worker.code`).

The archive is a zip without compression, its entries sorted and without times: the same files give the same bytes, so
the same digest, on every machine. No other archive is taken. What is not compressed cannot grow when it is unpacked.
"""

from __future__ import annotations

import errno
import hashlib
import io
import keyword
import os
import re
import stat
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fedparty.errors import JobError

PREFIX = "custom:"
"""How a component of the job's own code begins, e.g. ``custom:average.Average``."""
NAME = re.compile(r"custom:(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.(?P<name>[A-Za-z_]\w*)", re.ASCII)
MAX_BYTES = 10 * 2**20
"""Of an archive; what is in it has fewer."""
MAX_FILES = 1000

_SUFFIX = ".py"
_CACHE = "__pycache__"
_MAX_DEPTH = 16
_MAX_NAME = 200
_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_TAKEN = frozenset({"fedparty", *sys.stdlib_module_names})
_TIME = (1980, 1, 1, 0, 0, 0)
_ENTRY = b"PK\x01\x02"
_FILE_MODE = stat.S_IFREG | 0o400
_UNIX = 3
_RULES = "docs/jobs.md says what a folder custom/ may hold."


@dataclass(frozen=True)
class Package:
    """An archive whose files are known to be harmless to unpack.

    Parameters
    ----------
    content
        The archive.
    files
        What is in it, by path.
    """

    content: bytes
    files: Mapping[str, bytes]

    @property
    def sha256(self) -> str:
        """The digest that is signed with the job, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def is_custom(component: str) -> bool:
    """Return whether a component is the job's own code."""
    return component.startswith(PREFIX)


def pack(folder: Path) -> Package:
    """Return what a folder holds.

    Raises
    ------
    JobError
        Something in it is no module: a link, a device, a name that cannot be imported; or it is too much, or nothing.
    """
    files: dict[str, bytes] = {}
    left = MAX_BYTES
    for path, size in _found(folder):
        left -= size
        if left < 0 or len(files) == MAX_FILES:
            raise JobError(f"{folder}: more than {MAX_FILES} files or {MAX_BYTES} bytes", hint=_RULES)
        files[path.relative_to(folder).as_posix()] = _content(path, size)
    _check_names(files, str(folder))
    if not files:
        raise JobError(f"{folder}: there is no module in it", hint="Put the component's .py file there.")
    return read(_archive(files), str(folder))


def read(content: bytes, where: str = "the job's code") -> Package:
    """Return what an archive holds, which anybody may have made.

    Raises
    ------
    JobError
        It is not one that `pack` makes.
    """
    # Counted before the list of entries is read: ten megabytes can name a quarter of a million files.
    if len(content) > MAX_BYTES or content.count(_ENTRY) > MAX_FILES:
        raise JobError(f"{where}: more than {MAX_FILES} files or {MAX_BYTES} bytes", hint=_RULES)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check_entries(entries, where)
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError) as exc:
        raise JobError(f"{where}: the archive cannot be read: {exc}", hint=_RULES) from exc
    if _archive(files) != content:
        raise JobError(f"{where}: the archive holds more than its files, or in another order", hint=_RULES)
    return Package(content, files)


def _archive(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as writer:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = _UNIX, _FILE_MODE << 16
            writer.writestr(entry, files[name])
    content = archive.getvalue()
    if len(content) > MAX_BYTES:
        raise JobError(f"the job's code has more than {MAX_BYTES} bytes", hint=_RULES)
    return content


def _check_entries(entries: list[zipfile.ZipInfo], where: str) -> None:
    """Refuse what `pack` does not write, before a byte of it is read."""
    for entry in entries:
        name = entry.filename[:_MAX_NAME]
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise JobError(f"{where}: {name!r} is compressed", hint=_RULES)
        if entry.external_attr != _FILE_MODE << 16 or entry.flag_bits & 1:
            raise JobError(f"{where}: {name!r} is not a plain file", hint=_RULES)
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise JobError(f"{where}: a file is in it twice", hint=_RULES)
    if not names or sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise JobError(f"{where}: no files, or more than {MAX_BYTES} bytes", hint=_RULES)
    _check_names(names, where)


def _check_names(names: Mapping[str, bytes] | list[str], where: str) -> None:
    """Refuse names that are no modules, or the same one on some file systems."""
    modules: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        parts = [*path.parts[:-1], path.name.removesuffix(_SUFFIX)]
        is_importable = all(_PART.fullmatch(part) and not keyword.iskeyword(part) for part in parts)
        if not (is_importable and path.suffix == _SUFFIX and path.as_posix() == name) or len(parts) > _MAX_DEPTH:
            raise JobError(f"{where}: {name[:_MAX_NAME]!r} is not the file of a module", hint=_RULES)
        if parts[0] in _TAKEN:
            raise JobError(f"{where}: {name!r} would take the place of the module {parts[0]}", hint="Rename it.")
        _claim(modules, name, parts, where)


def _claim(modules: dict[str, str], name: str, parts: list[str], where: str) -> None:
    """Note which file a module is, and each package around it; refuse a second spelling, or file and folder of one."""
    for length in range(1, len(parts) + 1):
        owner = name if length == len(parts) else "/".join(parts[:length]) + "/"
        other = modules.setdefault("/".join(parts[:length]).lower(), owner)
        if other != owner:
            raise JobError(f"{where}: {other} and {owner} are the same module", hint="Rename one of them.")


def _found(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield each file, and its size, without following a link or opening anything."""
    try:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise JobError(f"{folder} is not a folder", hint=_RULES)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as exc:
        raise JobError(f"{folder}: {exc.strerror}", hint=_RULES) from exc
    for entry in entries:
        path = Path(entry.path)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            if entry.name != _CACHE:
                if not _PART.fullmatch(entry.name):
                    raise JobError(f"{path}: this folder's name cannot be imported", hint=_RULES)
                yield from _found(path)
        elif stat.S_ISREG(mode):
            yield path, entry.stat(follow_symlinks=False).st_size
        else:
            what = "a symbolic link" if stat.S_ISLNK(mode) else "not a file"
            raise JobError(f"{path} is {what}", hint="Put the file itself into the folder.")


def _content(path: Path, size: int) -> bytes:
    """Read a file that was a plain one, of this size, when it was looked at."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        what = "a symbolic link" if exc.errno == errno.ELOOP else exc.strerror
        raise JobError(f"{path}: {what}", hint=_RULES) from exc
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(size + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    if len(content) != size:
        raise JobError(f"{path} changed while it was read", hint="Submit again.")
    return content
