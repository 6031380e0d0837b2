"""Archives of code in the database.

Owns the statements. An archive lies there in parts: a database limits what one statement may carry.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database
from fedparty.flow.tables import CODE_PARTS, CODES, JOBS

_PART_BYTES = 2**19
_CODE, _PART = CODES.c, CODE_PARTS.c


class CodeStore:
    """The archives that a party keeps; see `fedparty.flow.codes.codes.Records`.

    Parameters
    ----------
    database
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, sha256: str, at: float) -> bool:
        """Note that an archive is wanted at a time; return whether it is there."""

        async def work(connection: AsyncConnection) -> bool:
            await connection.execute(sa.update(CODES).where(_CODE.sha256 == sha256).values(stored_at=at))
            found = await connection.execute(sa.select(_CODE.sha256).where(_CODE.sha256 == sha256))
            return found.first() is not None

        return await self._database.write(work)

    async def put(self, sha256: str, content: bytes, at: float) -> None:
        """Keep an archive; one that is there stays as it is."""
        head = [{"sha256": sha256, "size_bytes": len(content), "stored_at": at}]

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(self._database.insert_if_absent(CODES).values(head))
            for number, start in enumerate(range(0, len(content), _PART_BYTES)):
                part = {"sha256": sha256, "number": number, "content": content[start : start + _PART_BYTES]}
                await connection.execute(self._database.insert_if_absent(CODE_PARTS).values([part]))

        await self._database.write(work)

    async def get(self, sha256: str) -> bytes | None:
        """Return an archive, or None."""

        async def work(connection: AsyncConnection) -> bytes | None:
            query = sa.select(_PART.content).where(_PART.sha256 == sha256).order_by(_PART.number)
            return b"".join(row.content for row in await connection.execute(query)) or None

        return await self._database.read(work)

    async def prune(self, before: float) -> None:
        """Forget what no job has and nobody has wanted since a time."""

        async def work(connection: AsyncConnection) -> None:
            query = sa.select(_CODE.sha256).where(_unused() & (_CODE.stored_at < before))
            for row in (await connection.execute(query)).all():
                still = (_CODE.sha256 == row.sha256) & (_CODE.stored_at < before)
                if (await connection.execute(sa.delete(CODES).where(still))).rowcount:
                    await connection.execute(sa.delete(CODE_PARTS).where(_PART.sha256 == row.sha256))

        await self._database.write(work)

    async def unused(self) -> int:
        """Return how many archives no job has."""

        async def work(connection: AsyncConnection) -> int:
            query = sa.select(sa.func.count()).select_from(CODES).where(_unused())
            return int((await connection.execute(query)).scalar_one())

        return await self._database.read(work)


def _unused() -> sa.ColumnElement[bool]:
    return ~sa.exists().where(JOBS.c.code == _CODE.sha256)
