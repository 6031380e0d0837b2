"""What Linux offers and Python's library does not: process control and file change events.

Owns the ctypes declarations. Does not own any policy.

**Source** prctl(2), inotify(7).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IN_MODIFY = 0x2
_IN_DELETE_SELF = 0x400
_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def die_with_parent(with_signal: signal.Signals, parent: int) -> None:
    """Have the kernel send this process a signal when its parent ends, also if it already has.

    Parameters
    ----------
    with_signal
        Sent to this process.
    parent
        Process id that the parent had at the fork.
    """
    _prctl(_PR_SET_PDEATHSIG, with_signal)
    if os.getppid() != parent:
        signal.raise_signal(with_signal)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_children() -> None:
    """Kill all children of this process, and those that it adopts meanwhile; return when none is left."""
    with suppress(ChildProcessError):
        while True:
            for pid in children_of(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def children_of(parent: int) -> set[int]:
    """Return the process ids of the direct children of `parent`, ended and unreaped ones too."""
    children = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
        if int(stat.rpartition(b")")[2].split()[1]) == parent:
            children.add(int(entry.name))
    return children


class FileChanges:
    """Tells when files grow. Belongs to the running event loop; close it with `close`."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._watchers: dict[int, set[asyncio.Event]] = {}
        asyncio.get_running_loop().add_reader(self._fd, self._on_events)

    @contextmanager
    def of(self, path: Path) -> Iterator[asyncio.Event]:
        """Give an event that is set at each change of a file.

        Raises
        ------
        OSError
            The file cannot be watched.
        """
        changed = asyncio.Event()
        # One file has one watch descriptor, however often it is added.
        watch = _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY | _IN_DELETE_SELF))
        watchers = self._watchers.setdefault(watch, set())
        watchers.add(changed)
        try:
            yield changed
        finally:
            watchers.discard(changed)
            if not watchers and self._watchers.get(watch) is watchers:
                del self._watchers[watch]
                _libc.inotify_rm_watch(self._fd, watch)

    def close(self) -> None:
        """End all watches."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _on_events(self) -> None:
        data = os.read(self._fd, 1 << 16)
        offset = 0
        while offset < len(data):
            watch, _, _, name_length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size + name_length
            for changed in self._watchers.get(watch, ()):
                changed.set()


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, value, 0, 0, 0))


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
