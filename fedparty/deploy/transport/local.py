"""This machine.

Owns processes and the deploy lock of the machine that the deployer runs on; its files: `local_files`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TextIO

from fedparty.deploy.commands import Command
from fedparty.deploy.transport import holder, local_files, refusals
from fedparty.deploy.transport.base import Completed, FileState, OnProgress, Source
from fedparty.deploy.transport.streams import CHUNK_BYTES, read_lines

_PLACE = "this machine"


def is_local(address: str) -> bool:
    """Tell whether `address` (name or IP) is one of this machine's."""
    try:
        found = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return any(_can_bind(family, target) for family, _, _, _, target in found)


def _can_bind(family: int, target: object) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(target)  # type: ignore[arg-type]  # as getaddrinfo gave it
        except OSError:
            return False
    return True


class LocalTransport:
    """`Transport` to this machine."""

    @property
    def place(self) -> str:
        """See `Transport.place`."""
        return _PLACE

    @property
    def is_local(self) -> bool:
        """See `Transport.is_local`."""
        return True

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
        async with _running(command, source, timeout_s) as process:
            code, errors = await _finish(process, source, read_lines(_reader(process.stdout), on_line or output.append))
        _require_root(command, code, errors)
        return Completed(command, code, "".join(f"{line}\n" for line in output), errors)

    async def fetch(self, command: Command, target: Path, *, timeout_s: float | None = None) -> None:
        """See `Transport.fetch`."""
        with local_files.replacement(target) as file:
            async with _running(command, None, timeout_s) as process:
                code, errors = await _finish(process, None, _write_all(_reader(process.stdout), file.write))
            _require_root(command, code, errors)
            Completed(command, code, "", errors).require(_PLACE)

    async def upload(self, source: Path, target: PurePath) -> None:
        """See `Transport.upload`."""
        await asyncio.to_thread(local_files.copy_folder, source, Path(target))

    async def send_file(self, source: Path, target: PurePath, *, on_progress: OnProgress | None = None) -> None:
        """See `Transport.send_file`."""
        loop = asyncio.get_running_loop()

        def tell(sent: int, total: int) -> None:
            if on_progress is not None:
                loop.call_soon_threadsafe(on_progress, sent, total)

        await asyncio.to_thread(local_files.copy_file, source, Path(target), tell)

    async def replace(self, source: PurePath, target: PurePath, names: Sequence[str]) -> None:
        """See `Transport.replace`."""
        for name in names:
            local_files.move(Path(source / name), Path(target / name))

    async def listing(self, folder: PurePath) -> Mapping[str, FileState] | None:
        """See `Transport.listing`."""
        return await asyncio.to_thread(local_files.listing, Path(folder))

    async def read(self, path: PurePath) -> bytes | None:
        """See `Transport.read`."""
        return local_files.read(Path(path))

    async def write(self, path: PurePath, content: bytes) -> None:
        """See `Transport.write`."""
        with local_files.replacement(Path(path)) as file:
            file.write(content)

    async def remove(self, path: PurePath) -> None:
        """See `Transport.remove`."""
        await asyncio.to_thread(local_files.remove, Path(path))

    async def make_folder(self, path: PurePath) -> None:
        """See `Transport.make_folder`."""
        try:
            local_files.make_private(Path(path), _PLACE)
        except PermissionError:
            await self._make_as_root(path)

    async def rename(self, source: PurePath, target: PurePath) -> None:
        """See `Transport.rename`."""
        local_files.rename(Path(source), Path(target), _PLACE)

    @contextlib.asynccontextmanager
    async def lock(self, folder: PurePath) -> AsyncIterator[None]:
        """See `Transport.lock`. The kernel frees it when the deployer ends, however it ends."""
        if not local_files.is_folder(Path(folder)):
            await self.make_folder(folder)
        with _locked(Path(folder)):
            yield

    async def close(self) -> None:
        """See `Transport.close`. Nothing is open."""

    async def _make_as_root(self, path: PurePath) -> None:
        owner = f"{os.getuid()}:{os.getgid()}"
        for argv in (("mkdir", "-p", "--", str(path)), ("chown", owner, "--", str(path)), ("chmod", "700", str(path))):
            (await self.run(Command(argv, as_root=True))).require(_PLACE)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    path = folder / holder.LOCK_FILE
    with _open_lock(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise holder.is_held(folder, _PLACE, path.read_text()) from exc
        file.truncate(0)
        file.write(holder.describe_self())
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _open_lock(path: Path) -> TextIO:
    with local_files.explained(_PLACE):
        return open(path, "a+", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600))


@contextlib.asynccontextmanager
async def _running(
    command: Command, source: Source | None, timeout_s: float | None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command; it and all it started end with the context."""
    process = await _spawn(command, has_source=source is not None)
    try:
        async with asyncio.timeout(timeout_s):
            yield process
    except TimeoutError as exc:
        raise refusals.not_in_time(command, _PLACE, timeout_s) from exc
    finally:
        await _end(process)


async def _spawn(command: Command, *, has_source: bool) -> asyncio.subprocess.Process:
    argv = _argv(command)
    _require_startable(argv[0], command)
    return await asyncio.create_subprocess_exec(
        *argv,
        cwd=command.cwd,
        env=command.environment,
        stdin=asyncio.subprocess.PIPE if has_source else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A group of its own: Ctrl-C reaches the deployer alone, which then ends the whole group.
        start_new_session=True,
    )


def _argv(command: Command) -> tuple[str, ...]:
    is_sudo = command.as_root and os.geteuid() != 0
    return ("sudo", "-n", "--", *command.argv) if is_sudo else command.argv


def _require_startable(program: str, command: Command) -> None:
    if command.cwd is not None and not os.access(command.cwd, os.X_OK):
        raise refusals.no_folder(command.cwd, _PLACE)
    search = None if command.environment is None else command.environment.get("PATH", os.defpath)
    found = os.path.join(command.cwd or "", program) if os.sep in program else program  # noqa: PTH118  # ./ stays
    if shutil.which(found, path=search) is None:
        raise refusals.not_installed(program, _PLACE)


def _require_root(command: Command, code: int, errors: str) -> None:
    """Raise where sudo, and not the command, refused."""
    if command.as_root and code == 1 and errors.startswith("sudo: "):
        raise refusals.not_root(command.argv[0], _PLACE, errors)


async def _finish(
    process: asyncio.subprocess.Process, source: Source | None, output: Coroutine[None, None, None]
) -> tuple[int, str]:
    """Serve the streams of a process until it ends; returns its exit code and what it wrote as errors."""
    errors: list[str] = []
    feeding = [] if source is None else [_feed(process, source)]
    await asyncio.gather(output, read_lines(_reader(process.stderr), errors.append), *feeding)
    return await process.wait(), "".join(f"{line}\n" for line in errors)


async def _feed(process: asyncio.subprocess.Process, source: Source) -> None:
    """Write until the process reads no more."""
    assert process.stdin is not None  # noqa: S101  # a pipe, see _spawn
    chunks = iter(source)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            process.stdin.write(chunk)
            await process.stdin.drain()
    process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _reader(stream: asyncio.StreamReader | None) -> Callable[[], Awaitable[bytes]]:
    assert stream is not None  # noqa: S101  # a pipe, see _spawn
    return lambda: stream.read(CHUNK_BYTES)


async def _write_all(read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], object]) -> None:
    while chunk := await read():
        write(chunk)
