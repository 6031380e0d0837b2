"""Settings that lead to a database, and a table to try transactions with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database
from fedparty.settings import FlowSettings


def settings_with(**database: Any) -> FlowSettings:
    """Return settings of a flow, of which only the database is real."""
    fields: dict[str, Any] = dict.fromkeys(("rest", "peer", "egress", "mailbox", "worker", "operations"), "unix:x.sock")
    files = ("proxy_secret", "api_token", "signing_key", "signing_certificate", "ca_certificate", "revocations")
    return FlowSettings(party="10000", federation="lab", **database, **fields, **dict.fromkeys(files, Path("x")))


async def execute(database: Database, *statements: str, **values: Any) -> None:
    """Run statements in one transaction."""

    async def work(connection: AsyncConnection) -> None:
        for statement in statements:
            await connection.execute(sa.text(statement), values)

    await database.write(work)


async def create(database: Database) -> None:
    await execute(database, "CREATE TABLE t (x INTEGER PRIMARY KEY)")


async def insert(database: Database, x: int) -> None:
    await execute(database, "INSERT INTO t VALUES (:x)", x=x)


async def count(database: Database, table: str = "t") -> int:
    async def work(connection: AsyncConnection) -> int:
        return int(await connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0)

    return await database.read(work)
