"""The head of the audit log in the database: how long the file is at least, and how it ends there.

Owns its statements. Does not own the file.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database
from fedparty.flow.audit.chain import Head
from fedparty.flow.tables import AUDIT_HEADS

_KEY = 1
_HEAD = AUDIT_HEADS.c


class AuditStore:
    """The one row.

    Parameters
    ----------
    database
        Where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def head(self) -> Head:
        """Return the head that was kept last."""

        async def work(connection: AsyncConnection) -> Head:
            row = (await connection.execute(sa.select(AUDIT_HEADS).where(_HEAD.id == _KEY))).first()
            return Head() if row is None else Head(row.sequence, row.digest)

        return await self._database.read(work)

    async def keep(self, head: Head) -> None:
        """Keep a head, unless a later one is kept already."""

        async def work(connection: AsyncConnection) -> None:
            first = {"id": _KEY, "sequence": 0, "digest": Head().digest}
            await connection.execute(self._database.insert_if_absent(AUDIT_HEADS).values([first]))
            is_older = (_HEAD.id == _KEY) & (_HEAD.sequence < head.sequence)
            values = {"sequence": head.sequence, "digest": head.digest}
            await connection.execute(sa.update(AUDIT_HEADS).where(is_older).values(values))

        await self._database.write(work)
