"""What every transport can do.

Owns the interface and the result of a command. Implementations stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedparty.deploy.commands import Command
from fedparty.errors import DeployError

_SHOWN_LINES = 15


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


class Transport(Protocol):
    """A machine and the few things a deployer does on it."""

    async def run(
        self, command: Command, *, timeout_s: float | None = None, on_line: Callable[[str], None] | None = None
    ) -> Completed:
        """Run a command to its end; it is killed, with all it started, on time-out and on cancellation.

        Parameters
        ----------
        command
            What to run; it reads nothing.
        timeout_s
            Seconds; None: no limit.
        on_line
            Called with each line of output when it comes, which is then not kept.

        Raises
        ------
        DeployError
            The program does not exist, or the time is over.
        """

    async def upload(self, source: Path, target: Path) -> None:
        """Copy a folder as it is to `target`, which is replaced. Files are private from their first byte."""

    async def replace(self, source: Path, target: Path, names: Sequence[str]) -> None:
        """Move these files of one folder on the machine into another there, each by one rename, in this order."""

    async def read(self, path: Path) -> bytes | None:
        """Return a file's content; None where there is none."""

    async def write(self, path: Path, content: bytes) -> None:
        """Write a private file by one rename."""

    async def remove(self, path: Path) -> None:
        """Remove a file or folder with all it contains; its absence is fine."""

    def lock(self, folder: Path) -> AbstractAsyncContextManager[None]:
        """Hold the machine's lock for deploys into `folder`.

        Raises
        ------
        DeployError
            Another deploy holds it; the message says who and since when.
        """
