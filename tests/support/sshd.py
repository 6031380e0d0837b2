"""A real sshd on a free loopback port, with its own keys, users and known_hosts.

Owns its folder, its process and the throw-away users. Does not own what is tested with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from available import require
from ports import free_port

from fedparty.deploy.transport.prompt import Prompt
from fedparty.deploy.transport.ssh import SshHost, SshTransport

_CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
MaxStartups 100
LogLevel VERBOSE
"""
"""No sftp subsystem: a target may have none."""


def nobody() -> Prompt:
    """Return a prompt without a terminal."""
    return Prompt(is_there=False)


@dataclass
class Person:
    """Somebody at a terminal who gives prepared answers and remembers the questions."""

    answers: list[str]
    questions: list[str] = field(default_factory=list)

    def prompt(self) -> Prompt:
        """Return the prompt that asks this person."""
        return Prompt(is_there=True, ask=self._answer, ask_secret=self._answer)

    def _answer(self, question: str) -> str:
        self.questions.append(question)
        return self.answers.pop(0)


@dataclass
class Sshd:
    """A server that runs, and a user's SSH folder with a key that it accepts and its host key."""

    folder: Path
    port: int
    process: subprocess.Popen[str] | None = None

    @property
    def key(self) -> Path:
        """A private key that every user of the machine may log in with."""
        return self.folder / "client_key"

    @property
    def known_hosts(self) -> Path:
        """Knows this server."""
        return self.folder / "dot_ssh" / "known_hosts"

    @property
    def host_key_line(self) -> str:
        """The server's public key as known_hosts has it."""
        kind, blob = (self.folder / "host_key.pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {blob}\n"

    def transport(
        self,
        prompt: Prompt | None = None,
        *,
        port: int | None = None,
        user: str | None = None,
        key: Path | None = None,
        known_hosts: Path | None = None,
        is_key_given: bool = True,
        is_new_host_accepted: bool = False,
    ) -> SshTransport:
        """Return a transport to this server; by default as the current user with the key that it accepts."""
        host = SshHost("127.0.0.1", port or self.port, user, (key or self.key) if is_key_given else None)
        return SshTransport(
            host, known_hosts or self.known_hosts, prompt or nobody(), is_new_host_accepted=is_new_host_accepted
        )

    def start(self, *, passwords: bool = False) -> None:
        """Start the server; returns when it listens."""
        text = _CONFIGURATION.format(port=self.port, folder=self.folder, passwords="yes" if passwords else "no")
        (self.folder / "config").write_text(text)
        self.launch()

    def launch(self) -> None:
        """Start the server with the configuration that is there."""
        self.process = subprocess.Popen(
            [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", self.folder / "config"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if line.startswith("Server listening"):
                break
        else:
            raise AssertionError(f"sshd did not start: {''.join(lines)}")

    def stop(self) -> None:
        """Stop the server, not its connections."""
        if self.process is not None:
            self.process.terminate()
            self.process.communicate()
            self.process = None


@contextlib.asynccontextmanager
async def closing(transport: SshTransport) -> AsyncIterator[SshTransport]:
    """Close a transport at the end."""
    try:
        yield transport
    finally:
        await transport.close()


def make_key(path: Path, *, passphrase: str = "", kind: str = "ed25519") -> Path:
    """Make a key pair as a user does."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", path]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@contextlib.contextmanager
def running_sshd(*, passwords: bool = False) -> Iterator[Sshd]:
    """Run a server as the current user: root can let other users in, too."""
    require("sshd")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation wants it
    with tempfile.TemporaryDirectory(prefix="fpt-sshd-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Sshd(folder, free_port())
        make_key(folder / "host_key")
        make_key(server.key)
        shutil.copy(f"{server.key}.pub", folder / "authorized_keys")
        server.known_hosts.parent.mkdir(mode=0o700)
        server.known_hosts.write_text(server.host_key_line)
        server.start(passwords=passwords)
        try:
            yield server
        finally:
            server.stop()


@dataclass(frozen=True)
class User:
    """A throw-away user of this machine."""

    name: str
    password: str
    home: Path


@contextlib.contextmanager
def throw_away_user(sudo: str | None = None) -> Iterator[User]:
    """Make a user; `sudo` is what it may, e.g. ``NOPASSWD: ALL``. Only root can."""
    require_root()
    user = User(f"fpt-c-{secrets.token_hex(4)}", secrets.token_hex(8), Path(tempfile.mkdtemp(prefix="fpt-home-")))
    rule = Path("/etc/sudoers.d") / user.name
    subprocess.run(["useradd", "-M", "-d", user.home, "-s", "/bin/sh", user.name], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{user.name}:{user.password}\n", text=True, check=True)
        shutil.chown(user.home, user.name, user.name)
        if sudo is not None:
            require("sudo")
            rule.write_text(f"{user.name} ALL=(ALL) {sudo}\n")
            rule.chmod(0o440)
        yield user
    finally:
        rule.unlink(missing_ok=True)
        _end_processes(user.name)
        subprocess.run(["userdel", user.name], check=True)
        shutil.rmtree(user.home)


def require_root() -> None:
    """Go on only as root: else skip the test, or fail it in CI."""
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("making users takes root")


def _end_processes(user: str) -> None:
    for process in psutil.process_iter(["username"]):
        if process.info["username"] == user:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(5)


class Relay:
    """A way to a server that can be cut.

    Parameters
    ----------
    cut_after, cut_back_after
        For each connection in turn, the bytes to the server, and from it, after which it is cut; those that follow
        last.

    Attributes
    ----------
    connections, passed
        How many there were, and the bytes that went to the server.
    is_shut
        Whether those that come are cut at once.
    """

    def __init__(self, port: int, cut_after: list[int] | None = None, cut_back_after: list[int] | None = None) -> None:
        self._target = port
        self._cut_after = cut_after or []
        self._cut_back_after = cut_back_after or []
        self.passed = 0
        self.is_shut = False
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def shut(self) -> None:
        """Cut every connection, and those that come until `is_shut` is over."""
        self.is_shut = True
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_shut:
            writer.transport.abort()
            return
        self.connections += 1
        limit = self._cut_after.pop(0) if self._cut_after else None
        back = self._cut_back_after.pop(0) if self._cut_back_after else None
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, target_writer]
        await asyncio.gather(
            self._copy(reader, target_writer, limit, is_counted=True),
            self._copy(target_reader, writer, back),
            return_exceptions=True,
        )
        writer.close()
        target_writer.close()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None, *, is_counted: bool = False
    ) -> None:
        passed = 0
        while chunk := await reader.read(65536):
            passed += len(chunk)
            if limit is not None and passed > limit:
                self.cut()
                return
            self.passed += len(chunk) if is_counted else 0
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
