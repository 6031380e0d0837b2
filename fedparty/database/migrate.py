"""Brings a database to this release's schema: a deploy step, never done by a service.

Owns running the migrations under the database's own lock, and telling a service whether they were run. Does not own
their content: one file each under ``migrations/versions``, expand-only: release N-1 runs on schema N.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database, backend_of
from fedparty.errors import ConfigurationError
from fedparty.settings import FlowSettings

if TYPE_CHECKING:
    from alembic.config import Config

REVISION = "0007"
"""The newest migration that this release's statements need."""

TIMEOUT_S = 60.0
"""How long a database that is just being started, or is being migrated by somebody else, is waited for."""

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(settings: FlowSettings, timeout_s: float = TIMEOUT_S) -> str:
    """Run the migrations that the flow's database lacks; return the revision it is at.

    Whoever calls at the same time waits, and then finds nothing left to do. A database that a later release migrated
    is left as it is: this one runs on it too. SQLite does all or nothing; a migration that broke off at MariaDB or
    MySQL is run again, and does what was left.

    Raises
    ------
    FedpartyError
        The database cannot be reached within `timeout_s`, is damaged, or its disk is full.
    """
    with backend_of(settings).migrating(timeout_s) as connection:
        if _revision(connection) < REVISION:
            from alembic import command  # the services import this module for `check`, and need no Alembic

            command.upgrade(_alembic(connection), "head")
        return _revision(connection)


def current(settings: FlowSettings) -> str | None:
    """Return the revision that the flow's database is at, None before the first; nothing is changed.

    Raises
    ------
    FedpartyError
        The database cannot be read.
    """
    with backend_of(settings).revising() as connection:
        return (_revision(connection) if connection is not None else "") or None


def _alembic(connection: sa.Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def check(database: Database) -> None:
    """Make sure that a service may use the database.

    Raises
    ------
    ConfigurationError
        It lacks a migration that this release needs.
    DatabaseError
        It cannot be read now.
    """
    found = await database.read(_found)
    if found < REVISION:
        raise ConfigurationError(
            f"the database is at revision {found or 'none'}, this release needs {REVISION}",
            hint="Run in the party's home, or deploy the party again: python -m fedparty migrate",
        )


async def _found(connection: AsyncConnection) -> str:
    return await connection.run_sync(_revision)


def _revision(connection: sa.Connection) -> str:
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.scalar(sa.text("SELECT version_num FROM alembic_version")) or "")
