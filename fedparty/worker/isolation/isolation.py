"""What holds a job's own code: which paths and sockets it is left with, by whatever this kernel offers.

Owns the list of paths, the order of the measures, and what is told where they are missing. Does not own the measures
(`landlock`, `seccomp`, `namespaces`).

Two of them are demanded: Landlock and the filter of system calls. Namespaces come on top where the kernel lets this
user have them: then sockets that are not the task's do not exist for it.
"""

from __future__ import annotations

import ctypes
import functools
import json
import logging
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from fedparty.errors import JobError
from fedparty.rpc.sockets import unix_path
from fedparty.worker.isolation import landlock, namespaces, seccomp
from fedparty.worker.spec import TaskSpec

KERNEL, NONE = "kernel", "none"

_PR_SET_NO_NEW_PRIVS = 38
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
_FILES = (
    "/etc/ld.so.cache", "/etc/localtime", "/etc/hosts", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group",
    "/dev/urandom", "/dev/random", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self",
    "/sys/devices/system/cpu",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero")
_HINT = "The site's people may trust such code without it: isolation: none in a rule of policy.yaml (docs/policy.md)."

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


@functools.cache
def unheld() -> str:
    """Return why this kernel cannot hold code that is not trusted; empty: it can."""
    if not landlock.abi():
        return "its kernel offers no Landlock (Linux 5.13 or newer, and switched on)"
    if not seccomp.is_known():
        return f"there is no filter of system calls for a {os.uname().machine} processor"
    return ""


def hold(spec: TaskSpec, log: logging.Logger) -> None:
    """Take from this process what a job's own code does not need; it has no thread yet.

    Raises
    ------
    JobError
        It cannot be held here: nothing of the code was loaded.
    """
    if spec.isolation == NONE:
        log.warning("the job's own code is not held by anything: this site's policy says isolation: none")
        return
    if reason := unheld():
        raise JobError(f"a job's own code cannot be held at party {spec.member.party}: {reason}", hint=_HINT)
    try:
        log.info("the job's own code is held: %s", ", ".join(_hold(spec)))
    except OSError as exc:
        raise JobError(f"a job's own code cannot be held at party {spec.member.party}: {exc}", hint=_HINT) from exc


def _hold(spec: TaskSpec) -> list[str]:
    """Take it, and return what is held."""
    read, write = _readable(spec), [spec.folder, *map(Path, _DEVICES)]
    for path in read:
        if spec.folder.is_relative_to(path):
            raise OSError(f"the party's home lies in {path}, which Python needs")
    sockets = list(_sockets(spec))
    held = [f"files (Landlock {landlock.abi()})", "network", "other processes"]
    try:
        namespaces.enter(spec.folder, [*map(_of_all, read), *write, *sockets])
        held.append("sockets of other services")
    except OSError as exc:
        os.chdir(spec.folder)
        held.append(f"but sockets of other services are there: no namespaces of its own ({exc.strerror})")
    namespaces.drop_rights()
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    landlock.restrict(read, write)
    seccomp.restrict()
    return held


def _of_all(path: Path) -> Path:
    """Return what is to exist so that a path of /proc does."""
    return Path("/proc") if path.is_relative_to("/proc") else path


def _readable(spec: TaskSpec) -> list[Path]:
    """Return what the task may read: Python and what is installed, its code, its tables."""
    python = (sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), *_SYSTEM, *_FILES)
    tables = (Path(spec.tables_folder) / each["path"] for each in json.loads(spec.tables))
    wanted = [*map(Path, python), *_modules(), Path(spec.code), *tables]
    return [path for path in dict.fromkeys([*wanted, *(path.resolve() for path in wanted)]) if path.exists()]


def _modules() -> set[Path]:
    """Return where the modules lie that were loaded before: a package as a whole, never the folder that it lies in."""
    found = set()
    for name in {name.partition(".")[0] for name in sys.modules}:
        module = sys.modules.get(name)
        found |= {Path(each) for each in getattr(module, "__path__", ()) if Path(each).is_absolute()}
        if (file := getattr(module, "__file__", None)) and not hasattr(module, "__path__"):
            found.add(Path(file))
    return found


def _sockets(spec: TaskSpec) -> Iterator[Path]:
    for address in (spec.egress, spec.mailbox):
        path = unix_path(address)
        if path is None:
            raise OSError(f"{address} is not a Unix socket, and the job's own code gets no network")
        if path.exists():
            yield path
