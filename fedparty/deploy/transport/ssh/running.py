"""A command that runs in a session.

Owns its streams, its end and its killing. Knows nothing of what the commands are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass

import paramiko

from fedparty.deploy.commands import Command
from fedparty.deploy.transport import refusals
from fedparty.deploy.transport.base import Source
from fedparty.deploy.transport.ssh import scripts
from fedparty.deploy.transport.ssh.connection import ConnectionLostError, SshConnection
from fedparty.deploy.transport.ssh.threads import Threads
from fedparty.deploy.transport.streams import CHUNK_BYTES, read_lines
from fedparty.errors import DeployError

Read = Callable[[], Awaitable[bytes]]
Take = Callable[[Read], Coroutine[None, None, None]]
"""Takes all of a command's output."""

_KILL_TIMEOUT_S = 10.0
_LOSS_TOLD_S = 0.5
_NO_STATUS = -1
_GONE = (OSError, EOFError, paramiko.SSHException)


@dataclass(frozen=True)
class Ended:
    """A command that ended: its exit code (-1: a signal ended it) and what it wrote as errors."""

    code: int
    errors: str


@dataclass(frozen=True)
class Sudo:
    """How a command becomes root: words before it, and what sudo reads first."""

    words: tuple[str, ...] = ()
    password: bytes = b""


class Runner:
    """Runs commands on one connection, side by side."""

    def __init__(self, connection: SshConnection, threads: Threads, place: str) -> None:
        self._connection = connection
        self._threads = threads
        self._place = place

    async def run(
        self,
        command: Command,
        take: Take,
        *,
        sudo: Sudo = Sudo(),
        source: Source | None = None,
        timeout_s: float | None = None,
    ) -> Ended:
        """Run a command to its end; on time-out and cancellation it is killed there.

        Raises
        ------
        DeployError
            See `Transport.run`.
        """
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._connection.slot(),
                self._started(command, sudo) as running,
            ):
                return await self._serve(command, running, take, sudo, source)
        except TimeoutError as exc:
            raise refusals.not_in_time(command, self._place, timeout_s) from exc

    @contextlib.asynccontextmanager
    async def _started(self, command: Command, sudo: Sudo) -> AsyncIterator[_Running]:
        running = _Running(await self._connection.session(), self._threads)
        starting = asyncio.create_task(running.start(command, sudo.words))
        try:
            await asyncio.shield(starting)
            yield running
        except BaseException:
            # Not before it is known what to kill.
            await self._stop(running, starting, sudo)
            raise
        finally:
            running.channel.close()

    async def _serve(self, command: Command, running: _Running, take: Take, sudo: Sudo, source: Source | None) -> Ended:
        await self._require_started(command, running)
        errors: list[str] = []
        await asyncio.gather(
            take(running.read),
            read_lines(running.read_errors, errors.append),
            self._threads.call(running.feed, sudo.password, source),
        )
        code = await self._threads.call(running.channel.recv_exit_status)
        if code == _NO_STATUS and await running.is_lost():
            raise self._lost(command)
        return Ended(code, "".join(f"{line}\n" for line in errors))

    async def _require_started(self, command: Command, running: _Running) -> None:
        if running.outcome == scripts.NO_FOLDER:
            raise refusals.no_folder(command.cwd, self._place)
        if running.outcome == scripts.NO_PROGRAM:
            raise refusals.not_installed(command.argv[0], self._place)
        if running.process is None:
            if await running.is_lost():
                raise self._lost(command)
            said = running.preface.decode(errors="replace").strip()
            raise DeployError(
                f"{self._place}: the login shell did not run a command: {said or 'it wrote nothing'}",
                hint="Log in by ssh and look; the user needs a shell like sh or bash.",
            )

    def _lost(self, command: Command) -> ConnectionLostError:
        return ConnectionLostError(
            f"{self._place}: the connection was lost while this ran: {_shown(command)}",
            hint="Look whether the machine is up, then run this again.",
        )

    async def _stop(self, running: _Running, starting: asyncio.Task[None], sudo: Sudo) -> None:
        with contextlib.suppress(DeployError, *_GONE):
            async with asyncio.timeout(_KILL_TIMEOUT_S):
                await starting
                if running.process is not None and not running.channel.exit_status_ready():
                    await self._kill(running.process, sudo)
                    await self._threads.call(running.channel.status_event.wait, _KILL_TIMEOUT_S)

    async def _kill(self, process: int, sudo: Sudo) -> None:
        channel = await self._connection.session()
        with contextlib.closing(channel):
            await self._threads.call(channel.exec_command, scripts.kill(process, sudo.words))
            if sudo.password:
                await self._threads.call(channel.sendall, sudo.password * 2)
            await self._threads.call(channel.status_event.wait, _KILL_TIMEOUT_S)


class _Running:
    """A session in which a command was started."""

    def __init__(self, channel: paramiko.Channel, threads: Threads) -> None:
        self.channel = channel
        self.process: int | None = None
        self.outcome = ""
        self.preface = b""
        self._threads = threads
        self._begun = b""

    async def start(self, command: Command, sudo: Sequence[str]) -> None:
        """Start a command and read how that went; what a login shell wrote before is passed over."""
        mark = secrets.token_hex(8)
        try:
            await self._threads.call(self.channel.exec_command, scripts.start(mark, command, sudo))
        except _GONE:
            return  # lost; see Runner._require_started
        needle = mark.encode() + b" "
        while chunk := await self._receive():
            self.preface += chunk
            before, found, after = self.preface.partition(needle)
            if found and b"\n" in after:
                word, self._begun = after.split(b"\n", 1)
                self.preface, self.outcome = before, word.decode()
                self.process = int(word) if word.isdigit() else None
                return

    async def read(self) -> bytes:
        """Return more of its output; nothing at its end."""
        begun, self._begun = self._begun, b""
        return begun or await self._receive()

    async def read_errors(self) -> bytes:
        """Return more of its errors; nothing at its end."""
        return await self._take(self.channel.recv_stderr)

    def feed(self, first: bytes, source: Source | None) -> None:
        """Write all that it reads, as long as it reads; blocks."""
        if all(self._send(chunk) for chunk in itertools.chain((first,), source or ())):
            with contextlib.suppress(*_GONE):
                self.channel.shutdown_write()

    async def is_lost(self) -> bool:
        """Tell, after the session's end, whether the connection ended with it."""
        transport = self.channel.get_transport()
        # paramiko ends sessions a moment before it calls the connection ended.
        await self._threads.call(transport.join, _LOSS_TOLD_S)
        return not transport.is_active()

    def _send(self, chunk: bytes) -> bool:
        """Write; False where nobody reads any more."""
        try:
            self.channel.sendall(chunk)
        except _GONE:
            return False
        return True

    async def _receive(self) -> bytes:
        return await self._take(self.channel.recv)

    async def _take(self, receive: Callable[[int], bytes]) -> bytes:
        """Return more of a stream; nothing at its end, and where the connection is lost: see `is_lost`."""
        try:
            return await self._threads.call(receive, CHUNK_BYTES)
        except _GONE:  # reading tells the machine that there is room again, which may be what finds it gone
            return b""


def _shown(command: Command) -> str:
    """Return a command as people know it: without the text of a script."""
    is_script = command.argv[:2] == ("sh", "-c") and command.argv[3:4] == ("fedparty",)
    return " ".join(command.argv[4:]) if is_script else str(command)
