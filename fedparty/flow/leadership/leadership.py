"""How a replica comes to lead, stays the leader, and ends.

Owns the lease as time passes, by this machine's monotonic clock alone: no clock is ever compared with another. Does not
own its statements (`store`), nor what a leader does.

A leader renews its lease and counts its time from *before* it asked. A standby takes over when it has seen the lease
unchanged for as long, counted from *after* it was answered. So by the time that another may lead, this one knows that
its own time is over, unless it was stopped; for one that was stopped there is the fence: each of its transactions
locks the epoch, and each service remembers the highest epoch that it was shown.

Losing the lease is final. Nothing is taken apart or handed over: the process ends, and comes back as a standby.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fedparty.errors import DatabaseError, FedpartyError, RpcError
from fedparty.flow.leadership.store import Lease, LeaseStore, fence_of
from fedparty.rpc import catalogue
from fedparty.rpc.breaking import Breakable

logger = logging.getLogger(__name__)

_RENEWALS = 4
"""How often in its time a lease is renewed."""
_POLLS = 8
"""How often in that time a standby looks."""
_MARGIN = 0.95
"""What a leader takes of its time: two machines' clocks do not run equally fast."""
_RESIGN_S = 2.0
_HINT = "The service is started again and stands by."


def monotonic() -> float:
    """Return seconds that also pass while this machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Leadership:
    """One replica's part in the election; a `fedparty.flow.leadership.term.Term`.

    Parameters
    ----------
    store
        Where the lease is.
    holder
        Who this is: another name for each process.
    lease_s
        How long a lease lasts that is not renewed.
    clock
        Seconds, monotonic.
    """

    def __init__(self, store: LeaseStore, holder: str, lease_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._holder = holder
        self._lease_s = lease_s
        self._clock = clock
        self._block = Breakable()
        self._until = 0.0
        self._lost = ""
        self.epoch = 0
        self.fence = fence_of(self._admit)

    @property
    def leads(self) -> bool:
        """Whether this replica leads now."""
        return self.epoch > 0 and not self._lost and self._clock() < self._until

    def check(self) -> None:
        """Make sure that this replica leads.

        Raises
        ------
        RpcError
            SHUTTING_DOWN: it does not, and never will again.
        """
        if not self.leads:
            self._lose("its lease was not renewed in time")
            raise catalogue.error("SHUTTING_DOWN", f"this replica of the flow leads no more: {self._lost}")

    async def campaign(self) -> None:
        """Return once this replica leads."""
        seen, seen_at, fault = Lease(self._holder, -1), 0.0, ""
        while True:
            try:
                lease = await self._store.lease()
                if lease != seen:
                    seen, seen_at = lease, self._clock()
                is_free = not seen.holder or self._clock() - seen_at >= self._lease_s
                if is_free and await self._is_elected(seen):
                    return
                fault = ""
            except DatabaseError as exc:
                if exc.message != fault:
                    logger.warning("who leads is not known now: %s", exc.message)
                fault = exc.message
            await asyncio.sleep(self._lease_s / _POLLS * random.uniform(0.5, 1))  # noqa: S311 - guards nothing

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Renew the lease while the block runs, then give it back.

        Raises
        ------
        FedpartyError
            It was lost: the block was broken off.
        """
        async with self._block:
            renewing = asyncio.create_task(self._renew_until_lost())
            try:
                yield
            finally:
                is_held, self._lost = self.leads, self._lost or "it has ended"
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
                if is_held:
                    await self._resign()

    def _admit(self, epoch: int | None) -> None:
        """Let a transaction go on, by the epoch that it has locked.

        Raises
        ------
        DatabaseError
            This replica does not lead, and never will again.
        """
        if epoch != self.epoch:
            self._lose("another replica leads now")
        try:
            self.check()
        except RpcError as exc:
            raise DatabaseError(exc.message, hint=_HINT) from exc

    async def _is_elected(self, seen: Lease) -> bool:
        epoch = await self._store.elect(seen, self._holder)
        if epoch is None or not await self._is_renewed():
            return False
        self.epoch = epoch
        logger.info("this replica leads, in epoch %d", epoch)
        return True

    async def _is_renewed(self) -> bool:
        """Return whether the lease is still this replica's, and count its time anew."""
        began = self._clock()
        is_held = await self._store.renew(self._holder)
        if is_held:
            self._until = began + _MARGIN * self._lease_s
        return is_held

    async def _renew_until_lost(self) -> None:
        try:
            while self.leads:
                await asyncio.sleep(self._lease_s / _RENEWALS)
                await self._renew()
        finally:
            self._lose("its lease was not renewed in time")

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(self._until - self._clock()):
                if not await self._is_renewed():
                    self._lose("another replica leads now")
        except TimeoutError:
            self._lose(f"the database did not answer for {self._lease_s:g} s")
        except DatabaseError as exc:
            logger.warning("the lease is renewed later: %s", exc.message)

    async def _resign(self) -> None:
        try:
            async with asyncio.timeout(_RESIGN_S):
                await self._store.resign(self._holder)
        except (DatabaseError, TimeoutError) as exc:
            logger.warning("the lease was not given back, and expires: %s", exc)

    def _lose(self, why: str) -> None:
        if not self._lost:
            self._lost = why
            self._block.break_off(FedpartyError(f"this replica of the flow leads no more: {why}", hint=_HINT))
