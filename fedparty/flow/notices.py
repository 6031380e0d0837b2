"""The news of a job's end, delivered to every party of the job.

Owns repeating a notice until it was acknowledged, across restarts. Does not own the end itself.
"""

from __future__ import annotations

import asyncio
import logging
import time

from fedparty.errors import DatabaseError, RpcError
from fedparty.flow.background import Background, until_read, until_recorded
from fedparty.flow.peers import Peers
from fedparty.flow.records import Job, Notice, Outcome
from fedparty.flow.site import Site
from fedparty.flow.store import Store
from fedparty.rpc import catalogue
from fedparty.types import JobId, PartyId

logger = logging.getLogger(__name__)

KEPT_S = 24 * 3600.0
"""How long a party that cannot be reached is told; by its own clock it has ended its part at the job's deadline."""

_BACKOFF_S, _MAX_BACKOFF_S = 0.1, 30.0


class Notices:
    """Delivers notices in the background.

    Parameters
    ----------
    site
        This party's own part, which needs no proxy to hear of the end.
    store, peers
        Where they are kept, and the way to the other parties.
    """

    def __init__(self, site: Site, store: Store, peers: Peers) -> None:
        self._site = site
        self._store = store
        self._peers = peers
        self._delivering = Background()

    async def resume(self) -> None:
        """Go on with what is in the database and was not acknowledged: before a restart, or a commit that broke off."""
        for notice in await self._store.notices():
            self._deliver(notice, None)

    def send(self, job: Job, outcome: Outcome, expires_at: float) -> None:
        """Tell every party of a job, whose notices are in the database, how it ended."""
        for party in job.description.parties:
            self._deliver(Notice(job.id, party, expires_at), outcome)

    async def close(self) -> None:
        """Stop delivering; what was not acknowledged is sent after the next start."""
        await self._delivering.close()

    def _deliver(self, notice: Notice, outcome: Outcome | None) -> None:
        self._delivering.keep(notice, self._until_acknowledged(notice, outcome), job=notice.job)

    async def _tell(self, party: PartyId, job: JobId, outcome: Outcome) -> None:
        if party == self._site.party:
            await self._site.settle(job, outcome)
        else:
            await self._peers.end(party, job, outcome)

    async def _recorded(self, job: JobId) -> Outcome | None:
        known = await until_read(lambda: self._store.job(job))
        return Outcome(known.state, known.error, known.hint) if known is not None else None

    async def _until_acknowledged(self, notice: Notice, outcome: Outcome | None) -> None:
        outcome = outcome or await self._recorded(notice.job)
        backoff_s = _BACKOFF_S
        while outcome is not None and time.time() < notice.expires_at:
            try:
                await self._tell(notice.party, notice.job, outcome)
                break
            except DatabaseError as exc:
                logger.error("this party's part is ended later: %s", exc.message)
            except RpcError as exc:
                if not catalogue.is_retryable(exc) and exc.code != "DEADLINE":
                    logger.warning("party %s was not told of the job's end: %s", notice.party, exc.message)
                    break
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)
        await until_recorded(lambda: self._store.acknowledge(notice))
