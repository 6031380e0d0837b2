"""Bound tables in the database.

Owns the statements. Does not own what a name may look like (`bindings`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database
from fedparty.flow.bindings.bindings import Binding
from fedparty.flow.tables import BOUND_TABLES
from fedparty.storage.source import Source

_TABLE = BOUND_TABLES.c


class BindingStore:
    """The tables that a party's people bound; see `fedparty.flow.bindings.bindings.Records`.

    Parameters
    ----------
    database
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, binding: Binding) -> None:
        """Keep a binding, in the place of one of the same name."""
        values = {"source": json.dumps(binding.source.to_json()), "bound_at": binding.bound_at}
        name = binding.source.name

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(self._database.insert_if_absent(BOUND_TABLES).values([{"name": name, **values}]))
            await connection.execute(sa.update(BOUND_TABLES).where(_TABLE.name == name).values(values))

        await self._database.write(work)

    async def get(self, names: Sequence[str]) -> tuple[Binding, ...]:
        """Return those of these names that there are."""
        return await self._read(sa.select(BOUND_TABLES).where(_TABLE.name.in_(names)))

    async def all(self) -> tuple[Binding, ...]:
        """Return all, by name."""
        return await self._read(sa.select(BOUND_TABLES).order_by(_TABLE.name))

    async def remove(self, name: str) -> bool:
        """Forget one; return whether there was one."""

        async def work(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(sa.delete(BOUND_TABLES).where(_TABLE.name == name))).rowcount)

        return await self._database.write(work)

    async def _read(self, query: sa.Select[Any]) -> tuple[Binding, ...]:
        async def work(connection: AsyncConnection) -> tuple[Binding, ...]:
            rows = await connection.execute(query)
            return tuple(Binding(Source.from_json(json.loads(row.source)), row.bound_at) for row in rows)

        return await self._database.read(work)
