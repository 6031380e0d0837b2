"""Processes and ports of this machine.

Owns the questions that only the kernel can answer: which processes belong to a home, who holds a port, has it all gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from fedparty.errors import DeployError

_GRACE_S = 1.0
_POLL_S = 0.02
_SHOWN_CHARACTERS = 120
_WATCHERS_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
_WATCHER = "anon_inode:inotify"


@dataclass(frozen=True)
class Listener:
    """What listens on a port: process and command where they are visible, and the party's home if it is one's."""

    pid: int | None
    command: str
    home: str


def of_home(home: Path) -> list[psutil.Process]:
    """Return the processes that were started in this home, the caller and its parents excepted."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in own and _home_of(process) == str(home)]


def end(home: Path) -> int:
    """End every process of a home, gently first; returns how many there were.

    Raises
    ------
    DeployError
        Some cannot be ended.
    """
    found = of_home(home)
    alive = found
    for signal_name in ("terminate", "kill"):
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                getattr(process, signal_name)()
        _wait(alive, _GRACE_S)
        alive = of_home(home)  # asked again: one may have started another meanwhile
        if not alive:
            return len(found)
    names = ", ".join(str(process.pid) for process in alive)
    raise DeployError(f"{home}: processes {names} do not end", hint="End them by hand, then run the command again.")


def wait_until_gone(home: Path, timeout_s: float) -> bool:
    """Tell whether all processes of a home ended within the time."""
    return _wait(of_home(home), timeout_s)


def _wait(processes: Sequence[psutil.Process], timeout_s: float) -> bool:
    """Tell whether processes ended within the time; one that its parent has yet to reap has ended."""
    deadline = time.monotonic() + timeout_s
    alive = [process for process in processes if _is_alive(process)]
    while alive and time.monotonic() < deadline:
        psutil.wait_procs(alive, timeout=_POLL_S)
        alive = [process for process in alive if _is_alive(process)]
    return not alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there now.

    Raises
    ------
    DeployError
        The address is not this machine's, or the port is not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return False
            raise DeployError(f"{host}:{port} cannot be listened on: {exc.strerror}") from exc
    return True


def watchers_left() -> int | None:
    """Return how many more watchers of files this user's processes may open; None where the system has no such limit.

    Each service watches its live files; Linux counts the watchers (inotify(7)) of a user over all processes.
    """
    try:
        limit = int(_WATCHERS_LIMIT.read_text())
    except FileNotFoundError:
        return None
    own = (process.pid for process in psutil.process_iter() if _is_own(process))
    return limit - sum(_watchers_of(pid) for pid in own)


def _is_own(process: psutil.Process) -> bool:
    try:
        return process.uids().real == os.getuid()
    except psutil.Error:
        return False


def _watchers_of(pid: int) -> int:
    with contextlib.suppress(OSError):  # it ended, or may not be looked at
        return sum(str(entry.readlink()) == _WATCHER for entry in Path(f"/proc/{pid}/fd").iterdir())
    return 0


def listener_of(port: int) -> Listener:
    """Return what is known of the program that listens on a port."""
    for pid in _pids_listening(port):
        try:
            process = psutil.Process(pid)
            command = " ".join(" ".join(process.cmdline()).split())[:_SHOWN_CHARACTERS]
            return Listener(pid, command or process.name(), _home_of(process))
        except psutil.Error:
            return Listener(pid, "", "")
    return Listener(None, "", "")


def _pids_listening(port: int) -> Iterator[int]:
    with contextlib.suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                yield connection.pid


def _home_of(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("FEDPARTY_HOME", ""))
    except psutil.Error:
        return ""


def describe(listener: Listener) -> str:
    """Return who listens, as people say it."""
    if listener.home:
        return f"the party in {listener.home} (process {listener.pid})"
    if listener.pid is not None:
        return f"process {listener.pid}" + (f" ({listener.command})" if listener.command else "")
    return "a program of another user"
