"""What every transport can do.

Owns the interface and the results of commands. Implementations stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

from fedparty.deploy.commands import Command
from fedparty.errors import DeployError

_SHOWN_LINES = 15

Source = Iterable[bytes]
"""What a command reads, in chunks; iterated in a thread, so it may read files."""

OnProgress = Callable[[int, int], None]
"""Called with the bytes that were sent and with all there are."""


@dataclass(frozen=True)
class Completed:
    """A command that ended by itself."""

    command: Command
    code: int
    output: str
    errors: str

    def last_lines(self) -> str:
        """Return the end of what it wrote, errors last."""
        lines = [line for line in (self.output + self.errors).splitlines() if line.strip()]
        return "\n".join(lines[-_SHOWN_LINES:])

    def require(self, purpose: str) -> Completed:
        """Return this if it succeeded.

        Raises
        ------
        DeployError
            The command's exit code is not 0.
        """
        if self.code != 0:
            raise DeployError(f"{purpose}: {self.command} ended with {self.code}\n{self.last_lines()}")
        return self


@dataclass(frozen=True)
class FileState:
    """What `Transport.listing` tells of a file: its permission bits and the digest of its content in hexadecimal."""

    mode: int
    sha256: str


class Transport(Protocol):
    """A machine and the few things a deployer does on it.

    **Constraints.** Paths are absolute. Files and folders that it makes are private from their first byte. Several
    calls may run at once. Every method raises `DeployError` with the machine's name where the machine cannot be
    reached, or refuses.
    """

    @property
    def place(self) -> str:
        """The machine in messages: ``this machine`` or ``fate@192.168.1.2:22``."""

    @property
    def is_local(self) -> bool:
        """Whether the machine's files are this machine's."""

    async def run(
        self,
        command: Command,
        *,
        timeout_s: float | None = None,
        on_line: Callable[[str], None] | None = None,
        source: Source | None = None,
    ) -> Completed:
        """Run a command to its end; it is killed, with all it started, on time-out and on cancellation.

        Parameters
        ----------
        command
            What to run.
        timeout_s
            Seconds; None: no limit.
        on_line
            Called with each line of output when it comes, which is then not kept.
        source
            What it reads; None: nothing.

        Raises
        ------
        DeployError
            The program or its working directory does not exist, it may not run as root, the time is over, or the
            connection was lost.
        """

    async def fetch(self, command: Command, target: Path, *, timeout_s: float | None = None) -> None:
        """Run a command and write its output to a file of this machine, 0600, by one rename at its end.

        Raises
        ------
        DeployError
            As `run`, or the command failed; the file is then as it was.
        """

    async def upload(self, source: Path, target: PurePath) -> None:
        """Copy a folder with its modes to `target`, which is replaced; the folder itself is 0700."""

    async def send_file(self, source: Path, target: PurePath, *, on_progress: OnProgress | None = None) -> None:
        """Copy a file, 0600, by one rename at its end; goes on where it was when the connection was lost.

        Raises
        ------
        DeployError
            The connection was lost again and again, or what arrived is not what was sent.
        """

    async def replace(self, source: PurePath, target: PurePath, names: Sequence[str]) -> None:
        """Move these files of one folder on the machine into another there, each by one rename, in this order."""

    async def listing(self, folder: PurePath) -> Mapping[str, FileState] | None:
        """Return every regular file below a folder by its path in there; None where there is no such folder."""

    async def read(self, path: PurePath) -> bytes | None:
        """Return a file's content; None where there is none."""

    async def write(self, path: PurePath, content: bytes) -> None:
        """Write a private file by one rename."""

    async def remove(self, path: PurePath) -> None:
        """Remove a file or folder with all it contains; its absence is fine."""

    async def make_folder(self, path: PurePath) -> None:
        """Make a folder, with its parents, that only the user enters; one that is there becomes so.

        Where the user may not make it, root makes it for the user.

        Raises
        ------
        DeployError
            It is a link, a file, or somebody else's.
        """

    async def rename(self, source: PurePath, target: PurePath) -> None:
        """Give a file or folder another name on the same disk; a file that has that name is replaced."""

    def lock(self, folder: PurePath) -> AbstractAsyncContextManager[None]:
        """Hold the machine's lock for deploys into `folder`, which is made if absent; ends with the deployer.

        Raises
        ------
        DeployError
            Another deploy holds it; the message says who and since when.
        """

    async def close(self) -> None:
        """End all that the transport holds open; it must not be used afterwards."""
