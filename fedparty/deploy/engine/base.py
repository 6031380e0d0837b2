"""What every engine can do with one party.

Owns the interface between the deploy story and what runs a bundle. Implementations stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fedparty.deploy.health import Reading
from fedparty.deploy.report import ServiceState
from fedparty.deploy.transport.base import Completed


class Engine(Protocol):
    """One party's bundle on one machine.

    Attributes
    ----------
    name
        What ``--engine`` calls it.
    party
        A party id or ``exchange``.
    lock_place
        What `lock` locks: the same for parties that share a lock.
    rest_url
        Where its own people reach it; None: only within the party.
    logs
        Where its logs are, for people.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def party(self) -> str: ...  # noqa: D102
    @property
    def lock_place(self) -> str: ...  # noqa: D102
    @property
    def rest_url(self) -> str | None: ...  # noqa: D102
    @property
    def logs(self) -> str: ...  # noqa: D102

    async def check(self) -> None:
        """Check all that can be known before anything is changed.

        Raises
        ------
        BundleError
            The bundle was changed, is damaged, or is of another federation than the one deployed here.
        DeployError
            A port is taken by another program, or a private key that the party keeps to itself is missing.
        """

    async def plan(self) -> tuple[str, ...]:
        """Return what `install` and `start` would change and run, for people; changes nothing."""

    async def install(self) -> str:
        """Put the bundle in place; live files take effect at once. Returns what changed, for people."""

    async def start(self) -> str:
        """Migrate, start what does not run, restart what would read something else now. Returns what it did."""

    async def push_live(self) -> tuple[str, ...]:
        """Put changed live files in place, if the bundle is deployed here; returns their names."""

    async def wait(self, timeout_s: float, on_reading: Callable[[Reading], None]) -> tuple[ServiceState, ...]:
        """Wait until every service is healthy or time is over; the last lines of its log come with one that is not."""

    async def states(self) -> tuple[ServiceState, ...]:
        """Return every service as it is now; works when nothing is deployed."""

    async def execute(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """Run a program in the party."""

    async def follow(self, service: str, lines: int, *, is_followed: bool, on_line: Callable[[str], None]) -> None:
        """Give the last lines of a service's log, and with `is_followed` what is added until cancelled."""

    async def stop(self) -> None:
        """Stop every service and leave no process, socket or port behind."""

    async def purge(self) -> None:
        """Remove all that was deployed, data included. It must have been stopped."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Keep others from deploying to the same place."""

    @property
    def services(self) -> tuple[str, ...]:
        """The services of the bundle, in the order in which they are shown."""
