"""The fork server as the service sees it: a process with everything imported that forks one fresh process per task.

Owns its start and the socket to it. Does not own what goes on in it (`nursery`). It is forked from the service before
gRPC is initialised or a thread exists, shares its memory pages, and stays single-threaded.

Over the socket go JSON lines:

    service -> fork server   {"start": TaskSpec}   {"kill": key}
    fork server -> service   {"started": key, "pid": 17}   {"ended": key, "exit_code": -9}
                             {"refused": key, "error": "what went wrong"}
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fedparty.worker.spec import TaskSpec

Event = dict[str, Any]


@dataclass(frozen=True)
class ForkServer:
    """A fork server that runs.

    Parameters
    ----------
    pid
        Its process id; a child of this process.
    control
        The socket to it. When that closes, it ends.
    """

    pid: int
    control: socket.socket

    async def connect(self) -> Connection:
        """Return the connection to it, for the running loop."""
        reader, writer = await asyncio.open_unix_connection(sock=self.control)
        return Connection(self.pid, reader, writer)


class Connection:
    """What the service asks a fork server, and hears from it. Made by `ForkServer.connect`."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pid = pid
        self._reader = reader
        self._writer = writer

    def start(self, spec: TaskSpec) -> None:
        """Ask for a process; ``started`` or ``refused`` answers, ``ended`` follows ``started``."""
        self._tell({"start": spec.to_json()})

    def kill(self, key: str) -> None:
        """Ask for the end of a task and its descendants; ``ended`` answers. One that has ended is ignored."""
        self._tell({"kill": key})

    async def read(self, on_event: Callable[[Event], None]) -> None:
        """Hand on its events until it has gone."""
        with suppress(ConnectionError):
            while line := await self._reader.readline():
                on_event(json.loads(line))

    async def close(self) -> None:
        """End it, and with it all tasks; return when it has gone."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        with suppress(ChildProcessError):  # it died and was reaped before
            await asyncio.to_thread(os.waitpid, self._pid, 0)

    def _tell(self, command: dict[str, Any]) -> None:
        self._writer.write(json.dumps(command).encode() + b"\n")


def start() -> ForkServer:
    """Import what tasks need, and fork the fork server. Call it first: before gRPC is used, before threads."""
    warm_up()
    here, there = socket.socketpair()
    parent = os.getpid()
    sys.stdout.flush()  # else both processes would write what is still buffered
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        from fedparty.worker import nursery

        here.close()
        nursery.serve(there, parent)
    there.close()
    return ForkServer(pid, here)


def warm_up() -> None:
    """Import what every task needs, so that it is shared and a task starts in milliseconds."""
    # One thread a process: a task's cores are its limit, and a process with threads should not fork.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    importlib.import_module("fedparty.worker.nursery")
    registry = importlib.import_module("fedparty.components.registry")
    for name in registry.own_names():
        registry.find(name)
    gc.collect()
    gc.freeze()  # the collector leaves these objects alone, so their pages stay shared
