"""One connection to one machine: made when first needed, and made again when it was lost.

Owns sockets, time limits and sessions. Does not own what runs in a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import paramiko

from fedparty.deploy.transport.ssh.host import Route
from fedparty.deploy.transport.ssh.host_keys import HostKeys
from fedparty.deploy.transport.ssh.known_hosts import HostKey
from fedparty.deploy.transport.ssh.login import Login
from fedparty.deploy.transport.ssh.threads import Threads
from fedparty.errors import DeployError

CONNECT_TIMEOUT_S = 10.0
"""For TCP."""

NEGOTIATION_TIMEOUT_S = 13.0
"""From the first packet to the host key: a machine that never answers is told within 15 s."""

_AUTH_TIMEOUT_S = 20.0
_SESSION_TIMEOUT_S = 15.0
_KEEP_ALIVE_S = 15
_UNANSWERED_MS = 60_000
"""The kernel gives a connection up when its data was not acknowledged for so long."""

_LOGIN_CONNECTIONS = 4
_SESSIONS = 9
"""sshd allows ten for each connection by default; one is kept for killing."""

_COUNTED_STILL_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Pauses before a refused session is tried again: a busy sshd counts sessions that are closed already."""

_RETRY = "Run this again."
_LOG = "Look into its sshd's log."
_REACHABLE = "Is the machine on, its address and ssh_port right, and no firewall between?"

# Its own tracebacks are not for people; errors are told as DeployError. A root handler, if any, still gets them.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class ConnectionLostError(DeployError):
    """The connection ended in the middle; what ran may have ended or not."""


class _SessionRefusedError(DeployError):
    """sshd counts as many sessions as it allows."""


class SshConnection:
    """A connection through which sessions run side by side.

    Parameters
    ----------
    login
        Logs in on each new connection.
    jump
        The connection to go through; None: a direct one.
    """

    def __init__(
        self, route: Route, host_keys: HostKeys, login: Login, threads: Threads, jump: SshConnection | None
    ) -> None:
        self._route = route
        self._host_keys = host_keys
        self._login = login
        self._threads = threads
        self._jump = jump
        self._connecting = asyncio.Lock()
        self._slots = asyncio.Semaphore(_SESSIONS)
        self._transport: paramiko.Transport | None = None

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until the machine allows one more session."""
        async with self._slots:
            yield

    async def session(self) -> paramiko.Channel:
        """Open a session; nothing runs in it yet.

        Raises
        ------
        DeployError
            The machine cannot be reached, is not trusted, or refuses the login or the session.
        """
        for pause_s in _COUNTED_STILL_S:
            with contextlib.suppress(_SessionRefusedError):
                return await self._open_session()
            await asyncio.sleep(pause_s)
        return await self._open_session()

    async def close(self) -> None:
        """End the connection and its threads; it may be called twice."""
        if self._transport is not None:
            await _close(self._transport, self._threads)
            self._transport = None
        await self._threads.close()
        if self._jump is not None:
            await self._jump.close()

    async def _open_session(self) -> paramiko.Channel:
        try:
            return await self._open("session")
        except ConnectionLostError:
            # It was lost before; nothing ran in this session.
            return await self._open("session")

    async def _open(self, kind: str, target: tuple[str, int] | None = None) -> paramiko.Channel:
        transport = await self._connected()
        origin = ("127.0.0.1", 0) if target else None
        opening = asyncio.ensure_future(
            self._threads.call(transport.open_channel, kind, target, origin, timeout=_SESSION_TIMEOUT_S)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_channel)
            raise
        except paramiko.ChannelException as exc:
            raise _SessionRefusedError(
                f"{self._route.place}: sshd refuses another session: {exc.text or exc}",
                hint="Raise MaxSessions in its sshd_config to 10 or more.",
            ) from exc
        except (paramiko.SSHException, EOFError, OSError) as exc:
            await _close(transport, self._threads)
            raise ConnectionLostError(f"{self._route.place}: the connection was lost", hint=_RETRY) from exc

    async def _connected(self) -> paramiko.Transport:
        async with self._connecting:
            if self._transport is None or not self._transport.is_active():
                if self._transport is not None:
                    await _close(self._transport, self._threads)
                self._transport = await self._connect()
            return self._transport

    async def _connect(self) -> paramiko.Transport:
        for _ in range(_LOGIN_CONNECTIONS):
            transport = await self._negotiate()
            try:
                if await self._trusts_and_enters(transport):
                    transport.set_keepalive(_KEEP_ALIVE_S)
                    return transport
            except BaseException:
                await _close(transport, self._threads)
                raise
            await _close(transport, self._threads)
        raise DeployError(f"{self._route.place}: hung up during each login", hint="Look into its sshd's log.")

    async def _trusts_and_enters(self, transport: paramiko.Transport) -> bool:
        key = transport.get_remote_server_key()
        await self._host_keys.check(self._route, HostKey(key.get_name(), key.asbytes()))
        if not transport.is_active():  # a person took long to answer
            return False
        try:
            return await self._login.enter(transport)
        except (paramiko.SSHException, EOFError, OSError) as exc:
            raise DeployError(f"{self._route.place}: the login failed: {exc or 'hung up'}", hint=_LOG) from exc

    async def _negotiate(self) -> paramiko.Transport:
        """Connect as far as the host key."""
        sock = await self._socket()
        transport = paramiko.Transport(sock)
        transport.banner_timeout = transport.handshake_timeout = NEGOTIATION_TIMEOUT_S
        transport.auth_timeout = _AUTH_TIMEOUT_S
        options = transport.get_security_options()
        options.ciphers = [name for name in options.ciphers if not _is_weak(name)]
        options.digests = [name for name in options.digests if not _is_weak(name)]
        known = [kind for kind in self._host_keys.kinds(self._route) if kind in options.key_types]
        options.key_types = [*known, *(kind for kind in options.key_types if kind not in known)]
        try:
            await self._threads.call(transport.start_client, timeout=NEGOTIATION_TIMEOUT_S)
            transport.get_remote_server_key()
        except BaseException as exc:
            await _close(transport, self._threads)
            if isinstance(exc, (paramiko.SSHException, EOFError, OSError)):
                raise self._no_ssh(exc) from exc
            raise
        return transport

    async def _socket(self) -> socket.socket | paramiko.Channel:
        target = (self._route.hostname, self._route.port)
        if self._jump is not None:
            return await self._jump._open("direct-tcpip", target)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await _connect_tcp(*target)
        except TimeoutError as exc:
            raise DeployError(
                f"{self._route.place}: does not answer within {CONNECT_TIMEOUT_S:g} s", hint=_REACHABLE
            ) from exc
        except OSError as exc:
            raise DeployError(f"{self._route.place}: cannot be reached: {exc.strerror}", hint=_REACHABLE) from exc

    def _no_ssh(self, exc: Exception) -> DeployError:
        if isinstance(exc, paramiko.ssh_exception.IncompatiblePeer):
            return DeployError(f"{self._route.place}: no common algorithm: {exc}", hint="Update its sshd.")
        return DeployError(
            f"{self._route.place}: is reached, but did not answer as an SSH server within {NEGOTIATION_TIMEOUT_S:g} s",
            hint="Is ssh_port right? Does its sshd run, and not refuse this machine?",
        )


def _is_weak(algorithm: str) -> bool:
    return any(part in algorithm for part in ("cbc", "md5", "sha1"))


async def _connect_tcp(hostname: str, port: int) -> socket.socket:
    """Connect to the first address of the name that answers; each gets an equal share of the time."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(hostname, port, type=socket.SOCK_STREAM)
    for left, (family, kind, protocol, _, target) in zip(range(len(found), 0, -1), found, strict=True):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(CONNECT_TIMEOUT_S / len(found) if left > 1 else None):
                await loop.sock_connect(sock, target)
        except BaseException as exc:
            sock.close()
            if left > 1 and isinstance(exc, OSError):  # TimeoutError is one
                continue
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
        return sock
    raise OSError(None, "its name has no address")


async def _close(transport: paramiko.Transport, threads: Threads) -> None:
    """End a connection; its socket too, which paramiko leaves open where the other side ended it."""

    def close() -> None:
        transport.close()
        transport.sock.close()
        if transport.is_alive():
            transport.join()

    await asyncio.shield(threads.call(close))


def _close_channel(opening: asyncio.Future[paramiko.Channel]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
