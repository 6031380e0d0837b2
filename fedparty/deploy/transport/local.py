"""This machine.

Owns processes, files and the deploy lock of the machine that the deployer runs on.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import fcntl
import getpass
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO

from fedparty.deploy.commands import Command
from fedparty.deploy.transport.base import Completed
from fedparty.errors import DeployError

_CHUNK = 65536


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

    async def run(
        self, command: Command, *, timeout_s: float | None = None, on_line: Callable[[str], None] | None = None
    ) -> Completed:
        """See `Transport.run`."""
        process = await _spawn(command)
        output: list[str] = []
        errors: list[str] = []
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(
                    _read_lines(process.stdout, on_line or output.append), _read_lines(process.stderr, errors.append)
                )
                code = await process.wait()
        except TimeoutError as exc:
            raise DeployError(f"{command} did not end within {timeout_s:g} s") from exc
        finally:
            await _end(process)
        return Completed(command, code, "".join(f"{o}\n" for o in output), "".join(f"{e}\n" for e in errors))

    async def upload(self, source: Path, target: Path) -> None:
        """See `Transport.upload`."""
        await self.remove(target)
        _copy_folder(source, target)

    async def replace(self, source: Path, target: Path, names: Sequence[str]) -> None:
        """See `Transport.replace`."""
        for name in names:
            _move(source / name, target / name)

    async def read(self, path: Path) -> bytes | None:
        """See `Transport.read`."""
        return _read(path)

    async def write(self, path: Path, content: bytes) -> None:
        """See `Transport.write`."""
        _write(path, content)

    async def remove(self, path: Path) -> None:
        """See `Transport.remove`."""
        _remove(path)

    @contextlib.asynccontextmanager
    async def lock(self, folder: Path) -> AsyncIterator[None]:
        """See `Transport.lock`. The kernel frees it when the deployer ends, however it ends."""
        with _locked(folder):
            yield


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.replace(target)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    path = folder / ".deploy.lock"
    with _open_lock(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DeployError(_describe_holder(path), hint="Wait until it has ended, then run this again.") from exc
        file.truncate(0)
        json.dump({"who": _who(), "since": datetime.now().astimezone().isoformat(timespec="seconds")}, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _open_lock(path: Path) -> TextIO:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as exc:
        raise DeployError(
            f"{path.parent}: cannot be deployed into: {exc.strerror}", hint="Choose process_dir."
        ) from exc


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"


def _describe_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"{path.parent}: {holder['who']} is deploying here since {holder['since']}"
    except (ValueError, KeyError):
        return f"{path.parent}: somebody is deploying here now"


async def _spawn(command: Command) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *command.argv,
            cwd=command.cwd,
            env=command.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # A group of its own: Ctrl-C reaches the deployer alone, which then ends the whole group.
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as exc:
        raise DeployError(f"{command.argv[0]} cannot be run: {exc.strerror}: {exc.filename}") from exc


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _read_lines(stream: asyncio.StreamReader | None, on_line: Callable[[str], None]) -> None:
    """Give each line of any length to `on_line`."""
    assert stream is not None  # noqa: S101  # both are pipes
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    while chunk := await stream.read(_CHUNK):
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in lines:
            on_line(line)
    if rest:
        on_line(rest)


def _copy_folder(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700, parents=True)
    for entry in sorted(source.iterdir()):
        if entry.is_symlink():
            raise DeployError(f"{entry}: a bundle holds no links", hint="Run generate_config.py again.")
        if entry.is_dir():
            _copy_folder(entry, target / entry.name)
        else:
            _copy_file(entry, target / entry.name)


def _copy_file(source: Path, target: Path) -> None:
    mode = source.stat().st_mode & 0o777
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(source.read_bytes())
        os.fchmod(file.fileno(), mode)
