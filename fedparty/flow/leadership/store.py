"""The lease and the epochs in the database.

Owns their statements. Does not own when a lease counts as expired (`leadership`), nor what follows from a peer's epoch
(`peers`).

They are two rows of two tables. The lease is renewed often, by nobody but its holder. The epoch changes with each
election alone, and every transaction of a leader locks it, shared, before all else: so an election waits for those of
the leader before it that are under way, and those that come after it see that they are too late. The order of locks is
lease, epoch, everything else; a leader's transaction never touches the lease.

A new epoch is at least the database's clock, in seconds: also a database that was restored from a backup gives no epoch
twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database, Fence
from fedparty.flow.tables import EPOCHS, LEASES, PEER_EPOCHS
from fedparty.types import PartyId

_NAME = "flow"
_LEASE, _EPOCH = LEASES.c, EPOCHS.c
_IS_LEASE, _IS_EPOCH = _LEASE.name == _NAME, _EPOCH.name == _NAME
_NOW = sa.func.unix_timestamp(type_=sa.BigInteger)


@dataclass(frozen=True)
class Lease:
    """Who holds the lease, and how often it was renewed; nobody, if `holder` is empty."""

    holder: str
    renewals: int


class LeaseStore:
    """The lease of one party's flow.

    Parameters
    ----------
    database
        Where it is; not a leader's own, whose writes are fenced.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lease(self) -> Lease:
        """Return the lease as it is now.

        Raises
        ------
        DatabaseError
            The database cannot be used now.
        """
        query = sa.select(_LEASE.holder, _LEASE.renewals).where(_IS_LEASE & (_EPOCH.name == _LEASE.name))

        async def work(connection: AsyncConnection) -> Lease | None:
            row = (await connection.execute(query)).first()
            return None if row is None else Lease(row.holder, row.renewals)

        found = await self._database.read(work)
        if found is None:
            await self._prepare()
        return found or Lease("", 0)

    async def elect(self, seen: Lease, holder: str) -> int | None:
        """Give the lease to `holder` if it still is as it was seen; return the new epoch, or None.

        Raises
        ------
        DatabaseError
            The database cannot be used now; the lease may have been given all the same, with nobody to know.
        """
        is_as_seen = _IS_LEASE & (_LEASE.holder == seen.holder) & (_LEASE.renewals == seen.renewals)
        give = sa.update(LEASES).where(is_as_seen).values(holder=holder, renewals=seen.renewals + 1)
        advance = sa.update(EPOCHS).where(_IS_EPOCH).values(epoch=sa.func.greatest(_EPOCH.epoch + 1, _NOW))
        # Locked, so that no other election comes between this statement and the next.
        whose = sa.select(_LEASE.holder).where(_IS_LEASE).with_for_update()

        async def work(connection: AsyncConnection) -> int | None:
            if (await connection.execute(give)).rowcount:
                await connection.execute(advance)
            elif await connection.scalar(whose) != holder:  # else it was committed, and the answer was lost
                return None
            epoch: int | None = await connection.scalar(sa.select(_EPOCH.epoch).where(_IS_EPOCH))
            return epoch

        return await self._database.write(work)

    async def renew(self, holder: str) -> bool:
        """Renew the lease; return whether it is still `holder`'s.

        Raises
        ------
        DatabaseError
            The database cannot be used now.
        """
        return await self._change(sa.update(LEASES).where(_IS_LEASE & (_LEASE.holder == holder)))

    async def resign(self, holder: str) -> None:
        """Give the lease back, if it is `holder`'s.

        Raises
        ------
        DatabaseError
            The database cannot be used now.
        """
        await self._change(sa.update(LEASES).where(_IS_LEASE & (_LEASE.holder == holder)).values(holder=""))

    async def _change(self, update: sa.Update) -> bool:
        async def work(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(update.values(renewals=_LEASE.renewals + 1))).rowcount)

        return await self._database.write(work)

    async def _prepare(self) -> None:
        async def work(connection: AsyncConnection) -> None:
            for table, values in ((LEASES, {"holder": "", "renewals": 0}), (EPOCHS, {"epoch": 0})):
                await connection.execute(self._database.insert_if_absent(table).values([{"name": _NAME, **values}]))

        await self._database.write(work)


class EpochStore:
    """The highest epochs of other parties; see `fedparty.flow.leadership.peers.Records`.

    Parameters
    ----------
    database
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def raised(self, party: PartyId, epoch: int) -> int:
        """Keep an epoch unless a higher one is kept, and return the highest.

        Raises
        ------
        DatabaseError
            The database cannot be written now.
        """
        known = PEER_EPOCHS.c
        is_lower = (known.party == party) & (known.epoch < epoch)
        add = self._database.insert_if_absent(PEER_EPOCHS).values([{"party": party, "epoch": epoch}])

        async def work(connection: AsyncConnection) -> int:
            await connection.execute(add)
            await connection.execute(sa.update(PEER_EPOCHS).where(is_lower).values(epoch=epoch))
            return int(await connection.scalar(sa.select(known.epoch).where(known.party == party)) or epoch)

        return await self._database.write(work)


def fence_of(admit: Callable[[int | None], None]) -> Fence:
    """Return what lets `admit` decide about a transaction by the epoch, which stays what it is until that ends."""

    async def fence(connection: AsyncConnection) -> None:
        admit(await connection.scalar(sa.select(_EPOCH.epoch).where(_IS_EPOCH).with_for_update(read=True)))

    return fence
