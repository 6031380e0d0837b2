"""How the user of a machine becomes root.

Owns finding out whether sudo is needed, allowed, and asks for a password. Runs only harmless commands by it.
"""

from __future__ import annotations

import asyncio

from fedparty.deploy.commands import Command
from fedparty.deploy.transport import refusals
from fedparty.deploy.transport.prompt import Prompt
from fedparty.deploy.transport.ssh import scripts
from fedparty.deploy.transport.ssh.login import Login
from fedparty.deploy.transport.ssh.running import Ended, Read, Runner, Sudo
from fedparty.deploy.transport.streams import read_lines
from fedparty.errors import DeployError
from fedparty.types import Secret

_TRIES = 3
_WITHOUT_PASSWORD = Sudo(("sudo", "-n", "--"))


class Root:
    """One user of one machine; remembers for each program what is needed.

    A rule of sudo may name programs, so each is tried by itself, with ``--version``.
    """

    def __init__(self, runner: Runner, login: Login, prompt: Prompt, place: str) -> None:
        self._runner = runner
        self._login = login
        self._prompt = prompt
        self._place = place
        self._finding = asyncio.Lock()
        self._found: dict[str, Sudo] = {}
        self._password: Secret | None = None

    async def way_to(self, program: str) -> Sudo:
        """Return how a program runs as root.

        Raises
        ------
        DeployError
            The user may not, or would have to give a password that nobody gives.
        """
        async with self._finding:
            if program not in self._found:
                self._found[program] = await self._find(program)
            return self._found[program]

    async def _find(self, program: str) -> Sudo:
        if await self._is_root():
            return Sudo()
        ended = await self._try(program, _WITHOUT_PASSWORD)
        if not _is_refused(ended):
            return _WITHOUT_PASSWORD
        if refusals.PASSWORD_REQUIRED not in ended.errors:
            raise refusals.not_root(program, self._place, ended.errors)
        return await self._with_password(program)

    async def _is_root(self) -> bool:
        lines: list[str] = []
        await self._runner.run(scripts.user_id(), lambda read: read_lines(read, lines.append))
        return lines[0].startswith("0:")

    async def _with_password(self, program: str) -> Sudo:
        # Whoever logged in with a password has told the one that sudo asks for.
        for known in filter(None, (self._password, self._login.password)):
            if not _is_refused(await self._try(program, _with(known))):
                return _with(known)
        said = refusals.PASSWORD_REQUIRED
        for _ in range(_TRIES if self._prompt.is_there else 0):
            async with self._prompt.turn:
                password = await self._prompt.secret(f"{self._place}: sudo password")
            ended = await self._try(program, _with(password))
            if not _is_refused(ended):
                self._password = password
                return _with(password)
            said = ended.errors
        raise refusals.not_root(program, self._place, said)

    async def _try(self, program: str, sudo: Sudo) -> Ended:
        command = Command((program, "--version"))
        ended = await self._runner.run(command, _drop, sudo=sudo)
        if ended.code == 127:
            raise DeployError(f"{self._place}: sudo is not installed", hint="Install it there: apt-get install sudo.")
        return ended


def _is_refused(ended: Ended) -> bool:
    """Tell whether sudo refused; a program may fail by itself, for not each knows ``--version``."""
    words = ("sudo:", "Sorry,")
    return ended.code == 1 and any(line.startswith(words) or "sudoers" in line for line in ended.errors.splitlines())


def _with(password: Secret) -> Sudo:
    # -k: a ticket of an earlier command must not leave the password to the command's input.
    return Sudo(("sudo", "-k", "-S", "-p", "", "--"), f"{password.reveal()}\n".encode())


async def _drop(read: Read) -> None:
    while await read():
        pass
