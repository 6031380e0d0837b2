"""Namespaces of a process's own: a root in which only some paths exist, and no network.

Owns the system calls and their order. Does not own which paths (`isolation`). No rights are needed where the kernel
gives user namespaces to everybody; some distributions and Docker's default profile do not.

**Source** user_namespaces(7), mount_namespaces(7), pivot_root(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_NEW_USER, _NEW_MOUNTS, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x00020000, 0x40000000, 0x08000000
_BIND, _RECURSIVE, _PRIVATE = 0x1000, 0x4000, 0x40000
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_CAPBSET_DROP = 24
_CAPABILITIES = 64
_CAPABILITY_VERSION_3 = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}
_ROOT = ".root"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def enter(folder: Path, paths: Iterable[Path]) -> None:
    """Leave this process only these paths, where they are, and what is below them; the process has no other thread.

    Parameters
    ----------
    folder
        One of the paths; the working directory afterwards.
    paths
        Absolute; of one that leads through a link of the system's root, such as /lib, give what it leads to as well.

    Raises
    ------
    OSError
        The kernel does not let this user. Nothing has changed if it is the first call that was refused.
    """
    user, group = os.geteuid(), os.getegid()
    _checked(_libc.unshare(_NEW_USER | _NEW_MOUNTS | _NEW_NETWORK | _NEW_IPC))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _checked(_libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None))
    root = folder / _ROOT
    root.mkdir(mode=0o700)
    _checked(_libc.mount(b"none", bytes(root), b"tmpfs", 0, b"mode=0755,size=1m"))
    _link_top(root)
    bound: set[Path] = set()
    for path in sorted(set(paths), key=lambda path: len(path.parts)):
        if bound.isdisjoint(path.parents) and not Path("/", path.parts[1]).is_symlink():
            _bind(path, root)
            bound.add(path)
    os.chdir(root)
    _checked(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."))
    _checked(_libc.umount2(b".", _DETACH))
    os.chdir(folder)
    Path(_ROOT).rmdir()


def drop_rights() -> None:
    """Give up every capability, also those that a program would have when it is run as root."""
    for capability in range(_CAPABILITIES):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused where it is not known, or not held
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _checked(_libc.syscall(_CAPSET[os.uname().machine], header, (ctypes.c_uint32 * 6)()))


def _link_top(root: Path) -> None:
    """Make the links of the system's root again, such as /lib."""
    for entry in os.scandir("/"):
        if entry.is_symlink():
            (root / entry.name).symlink_to(str(Path(entry.path).readlink()).removeprefix("/"))


def _bind(path: Path, root: Path) -> None:
    target = root / path.relative_to("/")
    if stat.S_ISDIR(path.stat().st_mode):
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    # With what is mounted below, which the kernel does not let be uncovered; but not with the new root itself.
    flags = _BIND if path == root.parent else _BIND | _RECURSIVE
    _checked(_libc.mount(bytes(path), bytes(target), None, flags, None))


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
