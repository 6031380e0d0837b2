"""What the supervisor says of its programs.

Owns the questions over the supervisor's XML-RPC socket. Standard library only: it runs in a party and must start fast.
"""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Process:
    """A supervised program: its state (``RUNNING``, ``BACKOFF``…), process id, time of start, last start's error."""

    name: str
    state: str
    pid: int
    started: int
    error: str


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _SocketTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _SocketConnection(self._path)
        self._connection = host, connection  # what `close` closes
        return connection


def processes(supervisor_socket: Path) -> tuple[Process, ...] | None:
    """Return the supervised programs; None where no supervisor answers.

    Asking also wakes the supervisor, which else starts its programs only at its next tick, a second later.
    """
    found = _call(supervisor_socket, "getAllProcessInfo")
    if found is None:
        return None
    assert isinstance(found, list)  # noqa: S101  # the supervisor's contract
    return tuple(
        Process(str(each["name"]), str(each["statename"]), int(each["pid"]), int(each["start"]), str(each["spawnerr"]))
        for each in found
    )


def shut_down(supervisor_socket: Path) -> bool:
    """Tell the supervisor to stop every program and itself; returns at once, False where no supervisor answers."""
    return _call(supervisor_socket, "shutdown") is not None


def _call(supervisor_socket: Path, method: str) -> Any:
    """Return the supervisor's answer; None where it gives none."""
    transport = _SocketTransport(supervisor_socket)
    try:
        with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport) as server:
            return getattr(server.supervisor, method)()
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return None
