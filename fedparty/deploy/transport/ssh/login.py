"""Who logs in, and with what.

Owns the order of keys and passwords, and what is said when none is accepted. Does not connect.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import paramiko

from fedparty.deploy.transport.prompt import Prompt
from fedparty.deploy.transport.ssh import keys
from fedparty.deploy.transport.ssh.host import Route
from fedparty.deploy.transport.ssh.threads import Threads
from fedparty.errors import DeployError
from fedparty.types import Secret

_KEY_TRIES = 5
"""sshd ends a connection after six failures; one is left for a password."""

_TRIES = 3
"""How often a person is asked for the same password."""

_KEY = "publickey"
_PASSWORD_KINDS = {"password", "keyboard-interactive"}


class Login:
    """One user at one machine; remembers the password for the next connection.

    Attributes
    ----------
    password
        The one that the machine accepted; None: a key was enough.
    """

    def __init__(self, route: Route, prompt: Prompt, threads: Threads, folder: Path) -> None:
        self._route = route
        self._prompt = prompt
        self._threads = threads
        self._folder = folder
        self._tried: list[str] = []
        self._asked = 0
        self._are_keys_first = True
        self._passphrases: dict[Path, Secret] = {}
        self.password: Secret | None = None

    async def enter(self, transport: paramiko.Transport) -> bool:
        """Log in; False where the machine hung up in between and the next connection may go on.

        Raises
        ------
        DeployError
            The machine accepts nothing that this user has.
        """
        methods = await self._methods(transport)
        if _KEY in methods and self._are_keys_first:
            methods = await self._by_key(transport, methods)
        if not transport.is_authenticated() and not await self._by_password(transport, methods):
            return False
        self._asked = 0
        return True

    async def _methods(self, transport: paramiko.Transport) -> set[str]:
        """Return what the machine accepts."""
        try:
            await self._threads.call(transport.auth_none, self._route.user)
        except paramiko.BadAuthenticationType as exc:
            return set(exc.allowed_types)
        return set()

    async def _by_key(self, transport: paramiko.Transport, methods: set[str]) -> set[str]:
        """Try keys; returns the methods that the machine goes on with."""
        self._tried.clear()
        async with contextlib.aclosing(self._keys()) as found:
            async for name, key in found:
                self._tried.append(name)
                with contextlib.suppress(paramiko.AuthenticationException):
                    return set(await self._threads.call(transport.auth_publickey, self._route.user, key))
                if not transport.is_active() or len(self._tried) == _KEY_TRIES:
                    break
        self._are_keys_first = False
        return methods

    async def _keys(self) -> AsyncGenerator[tuple[str, paramiko.PKey], None]:
        """Yield the named keys, those of the agent, and the usual files; each once."""
        with contextlib.closing(paramiko.Agent()) as agent:
            held = {key.asbytes(): key for key in agent.get_keys()} if self._route.has_agent else {}
            for file in self._route.keys:
                key = held.pop(keys.public_blob(file) or b"", None) or await self._load(file)
                if key is not None:
                    yield str(file), key
            for key in held.values():
                yield f"{key.get_name()} of the agent", key
        for file in keys.usual_files(self._folder) if self._route.has_agent else ():
            if file not in self._route.keys and keys.public_blob(file) not in held:
                key = await self._load(file)
                if key is not None:
                    yield str(file), key

    async def _load(self, file: Path) -> paramiko.PKey | None:
        """Return a key; None where it needs a passphrase that nobody gives."""
        key = keys.load(file, self._passphrases.get(file))
        if key is not None:
            return key
        if not self._prompt.is_there:
            self._tried.append(f"{file} (needs a passphrase, and nobody can be asked: ssh-add it)")
            return None
        for _ in range(_TRIES):
            async with self._prompt.turn:
                passphrase = await self._prompt.secret(f"{self._route.place}: passphrase of {file}")
            key = keys.load(file, passphrase)
            if key is not None:
                self._passphrases[file] = passphrase
                return key
        raise DeployError(
            f"{file}: the passphrase is wrong", hint="Look it up, or ssh-add the key, and run this again."
        )

    async def _by_password(self, transport: paramiko.Transport, methods: set[str]) -> bool:
        if not methods & _PASSWORD_KINDS:
            raise self._refused("the machine takes no password")
        while self.password is not None or self._asked < _TRIES:
            password = self.password or await self._ask()
            self.password = password
            if not transport.is_active():
                return False
            try:
                await self._threads.call(transport.auth_password, self._route.user, password.reveal())
            except paramiko.AuthenticationException:
                self.password = None
            if transport.is_authenticated():
                return True
        raise self._refused("the password was refused")

    async def _ask(self) -> Secret:
        if not self._prompt.is_there:
            raise self._refused("nobody can be asked for a password")
        self._asked += 1
        async with self._prompt.turn:
            return await self._prompt.secret(f"{self._route.place}: password")

    def _refused(self, why: str) -> DeployError:
        tried = ", ".join(self._tried) or "no key was found"
        port = f" -p {self._route.port}" if self._route.port != 22 else ""
        return DeployError(
            f"{self._route.place}: the login was refused ({tried}), and {why}",
            hint=f"Bring a key there: ssh-copy-id{port} {self._route.user}@{self._route.address}; "
            "or set ssh_key or user in parties.conf.",
        )
