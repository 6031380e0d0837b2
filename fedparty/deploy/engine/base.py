"""What every engine can do with one party.

Owns the interface between the deploy story and what runs a bundle. Implementations stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fedparty.deploy.health import Reading
from fedparty.deploy.home import Home
from fedparty.deploy.report import ServiceState
from fedparty.deploy.transport.base import Completed, Transport


class Engine(Protocol):
    """One party's bundle on one machine.

    Attributes
    ----------
    name
        What ``--engine`` calls it.
    party
        A party id or ``exchange``.
    transport, home
        The machine, and where on it the party is, or will be, deployed.
    lock_place
        What `lock` locks: the same for parties that share a lock.
    rest_url
        Where its own people reach it; None: only within the party.
    logs
        Where its logs are, for people.
    entry
        Words that a person writes before a program's to run it in the party; none where it runs right here.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def party(self) -> str: ...  # noqa: D102
    @property
    def transport(self) -> Transport: ...  # noqa: D102
    @property
    def home(self) -> Home: ...  # noqa: D102
    @property
    def lock_place(self) -> str: ...  # noqa: D102
    @property
    def rest_url(self) -> str | None: ...  # noqa: D102
    @property
    def logs(self) -> str: ...  # noqa: D102
    @property
    def entry(self) -> tuple[str, ...]: ...  # noqa: D102

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

    async def install(self, tell: Callable[[str], None]) -> str:
        """Put the bundle and what it needs in place; live files take effect at once. Returns what changed, for people.

        Parameters
        ----------
        tell
            Called with each step that takes a while.
        """

    async def start(self) -> str:
        """Migrate, start what does not run, restart what would read something else now. Returns what it did."""

    async def is_deployed(self) -> bool:
        """Tell whether a bundle is in place at its home; makes nothing there."""

    async def push_live(self) -> tuple[str, ...]:
        """Put changed live files in place, if the bundle is deployed here; returns their names."""

    async def wait(self, timeout_s: float, on_reading: Callable[[Reading], None]) -> tuple[ServiceState, ...]:
        """Wait until every service is healthy or time is over; the last lines of its log come with one that is not."""

    async def confirm(self) -> None:
        """Keep what is in place now as a release that was healthy."""

    async def roll_back(self, timeout_s: float) -> str | None:
        """Go back to the last release that was healthy, and wait until it is.

        Returns
        -------
        str or None
            What became of it, for people; None: there is none, or it is in place.
        """

    async def record(self, what: str) -> None:
        """Add a line to the audit log on the machine."""

    async def states(self) -> tuple[ServiceState, ...]:
        """Return every service as it is now; works when nothing is deployed."""

    async def execute(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """Run a program in the party."""

    async def follow(self, service: str, lines: int, *, is_followed: bool, on_line: Callable[[str], None]) -> None:
        """Give the last lines of a service's log, and with `is_followed` what is added until cancelled."""

    async def stop(self) -> None:
        """Stop every service and leave no process, socket or port behind."""

    async def purge(self) -> None:
        """Remove all that was deployed, data and audit log included. It must have been stopped."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Keep others from deploying to the same place."""

    @property
    def services(self) -> tuple[str, ...]:
        """The services of the bundle, in the order in which they are shown."""
