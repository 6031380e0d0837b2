"""`Transport` by SSH.

Owns what each method does in terms of scripts. Does not own connections, login, or the scripts themselves.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path, PurePath

from fedparty.deploy.commands import Command
from fedparty.deploy.transport import local_files
from fedparty.deploy.transport.base import Completed, FileState, OnProgress, Source
from fedparty.deploy.transport.prompt import Prompt
from fedparty.deploy.transport.ssh import archive, scripts
from fedparty.deploy.transport.ssh.connection import ConnectionLostError, SshConnection
from fedparty.deploy.transport.ssh.host import Route, SshHost, find_route
from fedparty.deploy.transport.ssh.host_keys import HostKeys
from fedparty.deploy.transport.ssh.lock import FolderLock
from fedparty.deploy.transport.ssh.login import Login
from fedparty.deploy.transport.ssh.root import Root
from fedparty.deploy.transport.ssh.running import Ended, Read, Runner, Sudo, Take
from fedparty.deploy.transport.ssh.sending import Sending
from fedparty.deploy.transport.ssh.threads import Threads
from fedparty.deploy.transport.streams import read_lines
from fedparty.errors import DeployError


class SshTransport:
    """`Transport` to another machine.

    Parameters
    ----------
    known_hosts
        The user's file of known machines; its folder holds the user's other SSH files.
    is_new_host_accepted
        Trust a machine that is not known, unasked.
    """

    def __init__(self, host: SshHost, known_hosts: Path, prompt: Prompt, *, is_new_host_accepted: bool = False) -> None:
        folder = known_hosts.parent
        route = find_route(host, folder / "config")
        host_keys = HostKeys(known_hosts, prompt, is_new_accepted=is_new_host_accepted)
        threads = Threads(route.place)
        login = Login(route, prompt, threads, folder)
        jump = None if route.jump is None else _connection(route.jump, host_keys, prompt, folder)
        self._place = route.place
        self._connection = SshConnection(route, host_keys, login, threads, jump)
        self._runner = Runner(self._connection, threads, route.place)
        self._root = Root(self._runner, login, prompt, route.place)

    @property
    def place(self) -> str:
        """See `Transport.place`."""
        return self._place

    @property
    def is_local(self) -> bool:
        """See `Transport.is_local`."""
        return False

    async def run(
        self,
        command: Command,
        *,
        timeout_s: float | None = None,
        on_line: Callable[[str], None] | None = None,
        source: Source | None = None,
    ) -> Completed:
        """See `Transport.run`."""
        output: list[str] = []
        ended = await self._execute(
            command, lambda read: read_lines(read, on_line or output.append), source=source, timeout_s=timeout_s
        )
        return Completed(command, ended.code, "".join(f"{line}\n" for line in output), ended.errors)

    async def fetch(self, command: Command, target: Path, *, timeout_s: float | None = None) -> None:
        """See `Transport.fetch`."""
        with local_files.replacement(target) as file:
            ended = await self._execute(command, _into(file.write), timeout_s=timeout_s)
            Completed(command, ended.code, "", ended.errors).require(self._place)

    async def upload(self, source: Path, target: PurePath) -> None:
        """See `Transport.upload`."""
        last = f".{secrets.token_hex(8)}"
        await self._checked(scripts.unpack(target, last), target, source=archive.pack(source, last))

    async def send_file(self, source: Path, target: PurePath, *, on_progress: OnProgress | None = None) -> None:
        """See `Transport.send_file`."""
        await Sending(self._run_with, source, target, self._place, on_progress).send()

    async def replace(self, source: PurePath, target: PurePath, names: Sequence[str]) -> None:
        """See `Transport.replace`."""
        if any("\n" in name for name in names):
            raise DeployError(f"{self._place}: {source}: holds a name with a line break", hint="Rename the file.")
        lines = "".join(f"{name}\n" for name in names).encode()
        await self._checked(scripts.replace(source, target), target, source=(lines,))

    async def listing(self, folder: PurePath) -> Mapping[str, FileState] | None:
        """See `Transport.listing`."""
        content = await self._bytes(scripts.listing(folder), folder)
        return None if content is None else _parse_listing(content)

    async def read(self, path: PurePath) -> bytes | None:
        """See `Transport.read`."""
        return await self._bytes(scripts.read(path), path)

    async def write(self, path: PurePath, content: bytes) -> None:
        """See `Transport.write`."""
        await self._checked(scripts.write(path, len(content)), path, source=(content,))

    async def remove(self, path: PurePath) -> None:
        """See `Transport.remove`."""
        await self._checked(scripts.remove(path), path)

    async def make_folder(self, path: PurePath) -> None:
        """See `Transport.make_folder`."""
        made = await self._run_with(scripts.make_folder(path), None)
        if made.code == scripts.NOT_OURS:
            raise DeployError(
                f"{self._place}: {path}: is not a folder of this user", hint="Look who made it; remove it."
            )
        if made.code == scripts.NOT_ALLOWED:
            owner = (await self._checked(scripts.user_id(), path)).output.strip()
            await self._checked(scripts.make_folder_for(path, owner), path)
        else:
            made.require(f"{self._place}: {path}")

    async def rename(self, source: PurePath, target: PurePath) -> None:
        """See `Transport.rename`."""
        await self._checked(scripts.rename(source, target), target)

    @contextlib.asynccontextmanager
    async def lock(self, folder: PurePath) -> AsyncIterator[None]:
        """See `Transport.lock`. A connection that was lost does not end it, see `FolderLock`."""
        if (await self._run_with(scripts.is_folder(folder), None)).code != 0:
            await self.make_folder(folder)
        async with FolderLock(self._runner, folder, self._place).held():
            yield

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._connection.close()

    async def _execute(
        self, command: Command, take: Take, *, source: Source | None = None, timeout_s: float | None = None
    ) -> Ended:
        sudo = await self._root.way_to(command.argv[0]) if command.as_root else Sudo()
        return await self._runner.run(command, take, sudo=sudo, source=source, timeout_s=timeout_s)

    async def _run_with(self, command: Command, source: Source | None) -> Completed:
        return await self.run(command, source=source)

    async def _checked(self, command: Command, path: PurePath, *, source: Source | None = None) -> Completed:
        return (await self.run(command, source=source)).require(f"{self._place}: {path}")

    async def _bytes(self, command: Command, path: PurePath) -> bytes | None:
        """Return what a command that changes nothing writes; a lost connection is made again once."""
        try:
            return await self._bytes_once(command, path)
        except ConnectionLostError:
            return await self._bytes_once(command, path)

    async def _bytes_once(self, command: Command, path: PurePath) -> bytes | None:
        content = bytearray()
        ended = await self._execute(command, _into(content.extend))
        if ended.code == scripts.ABSENT:
            return None
        Completed(command, ended.code, "", ended.errors).require(f"{self._place}: {path}")
        return bytes(content)


def _connection(route: Route, host_keys: HostKeys, prompt: Prompt, folder: Path) -> SshConnection:
    threads = Threads(route.place)
    jump = None if route.jump is None else _connection(route.jump, host_keys, prompt, folder)
    return SshConnection(route, host_keys, Login(route, prompt, threads, folder), threads, jump)


def _into(write: Callable[[bytes], object]) -> Take:
    async def take(read: Read) -> None:
        while chunk := await read():
            write(chunk)

    return take


def _parse_listing(content: bytes) -> dict[str, FileState]:
    """Return what `scripts.listing` wrote."""
    entries = content.decode("utf-8", "surrogateescape").split("\0")
    border = entries.index("")
    modes = _by_path(entries[:border], " ")
    digests = _by_path(entries[border + 1 : -1], "  ")
    return {path: FileState(int(mode, 8), digests[path]) for path, mode in sorted(modes.items())}


def _by_path(entries: Sequence[str], separator: str) -> dict[str, str]:
    split = (entry.partition(separator) for entry in entries)
    return {path.removeprefix("./"): word for word, _, path in split}
