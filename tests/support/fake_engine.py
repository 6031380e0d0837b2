"""An engine in memory, for the tests of the deploy story: `fedparty.deploy.engine.base.Engine` without a machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fedparty.deploy.commands import Command
from fedparty.deploy.health import DOWN, HEALTHY, Reading
from fedparty.deploy.report import NOT_DEPLOYED, STOPPED, ServiceState
from fedparty.deploy.transport.base import Completed
from fedparty.deploy.transport.ssh.lock import ends_with
from fedparty.errors import BundleError, DeployError


@dataclass
class FakeEngine:
    """Keeps what would be on a machine: what is installed, what runs.

    Parameters
    ----------
    is_locked
        Somebody else deploys to its place.
    breaks
        What goes wrong in the method of a name.
    is_damaged
        The bundle does not pass its check.
    sick
        Services that never become healthy.
    sums
        What the toy job prints; the right sum unless given.

    Attributes
    ----------
    lost
        Set it, and the lock is lost.
    lock_count, is_held
        How often the lock was taken, and whether it is held now.
    """

    party: str
    services: tuple[str, ...] = ("proxy", "flow")
    is_damaged: bool = False
    sick: tuple[str, ...] = ()
    sums: dict[tuple[str, ...], str] = field(default_factory=dict)
    name: str = "process"
    rest_url: str | None = None
    logs: str = "logs"
    entry: tuple[str, ...] = ()
    lock_place: str = "here"
    is_installed: bool = False
    is_running: bool = False
    lock_count: int = 0
    is_locked: bool = False
    is_held: bool = False
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    breaks: dict[str, Exception] = field(default_factory=dict)
    releases: int = 0
    audit: list[str] = field(default_factory=list)

    async def check(self) -> None:
        if self.is_damaged:
            raise BundleError(f"confs-{self.party}: not as it was signed", hint="Take it again.")

    async def plan(self) -> tuple[str, ...]:
        return ("new bundle",)

    async def install(self, tell: Callable[[str], None]) -> str:
        self._break("install")
        self.is_installed = True
        return "new bundle"

    async def start(self) -> str:
        assert self.is_installed
        self.is_running = True
        return "services started"

    async def is_deployed(self) -> bool:
        self._break("is_deployed")
        return self.is_installed

    async def push_live(self) -> tuple[str, ...]:
        if not self.is_installed:
            return ()
        return ("proxy/live/cds.json",)

    async def wait(self, timeout_s: float, on_reading: Callable[[Reading], None]) -> tuple[ServiceState, ...]:
        for service in self.services:
            on_reading(Reading(service, self._state(service)))
        return await self.states()

    async def states(self) -> tuple[ServiceState, ...]:
        return tuple(ServiceState(service, self._state(service)) for service in self.services)

    async def execute(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        members = tuple(argv[1 : argv.index("--partition") - 1])
        total = self.sums.get(members, f"{1000.0 * len(members)}")
        command = Command(tuple(argv))
        if total == "error":
            return Completed(command, 1, "", "[PEER_FLOW_DOWN] party 9999's flow does not answer\n")
        return Completed(command, 0, f"success to calculate secure_sum, it is {total}\n", "")

    async def follow(self, service: str, lines: int, *, is_followed: bool, on_line: Callable[[str], None]) -> None:
        on_line(f"{service} of {self.party}")

    async def confirm(self) -> None:
        self.releases += 1

    async def roll_back(self, timeout_s: float) -> str | None:
        self._break("roll_back")
        if not self.releases:
            return None
        self.sick = ()
        return "went back to the release of yesterday, which is healthy"

    async def record(self, what: str) -> None:
        self.audit.append(what)

    async def stop(self) -> None:
        self.is_running = False

    async def purge(self) -> None:
        assert not self.is_running
        self.is_installed = False

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        if self.is_locked:
            raise DeployError(f"{self.lock_place}: somebody is deploying here now")
        self._break("lock")
        self.lock_count += 1
        self.is_held = True
        losing = asyncio.create_task(self._lose())
        try:
            async with ends_with(losing):
                yield
        finally:
            self.is_held = False
            losing.cancel()

    async def _lose(self) -> None:
        await self.lost.wait()
        raise DeployError(f"the lock was lost: {self.lock_place}: somebody is deploying here now")

    def _break(self, method: str) -> None:
        if method in self.breaks:
            raise self.breaks[method]

    def _state(self, service: str) -> str:
        if not self.is_installed:
            return NOT_DEPLOYED
        if not self.is_running:
            return STOPPED
        return DOWN if service in self.sick else HEALTHY
