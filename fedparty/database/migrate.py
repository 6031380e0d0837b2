"""Brings a database to this release's schema: a deploy step, never done by a service.

Owns running the migrations under the database's own lock, and telling a service whether they were run. Does not own
their content: one file each under ``migrations/versions``, expand-only: release N-1 runs on schema N.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from fedparty.database.engine import Database, configure, prepare_file, sqlite_file
from fedparty.errors import ConfigurationError, FedpartyError
from fedparty.settings import FlowSettings

if TYPE_CHECKING:
    from alembic.config import Config

REVISION = "0001"
"""The newest migration that this release's statements need."""

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(settings: FlowSettings) -> str:
    """Run the migrations that the flow's database lacks, all or none; return the revision it is at.

    Whoever calls at the same time waits, and then finds nothing left to do. A database that a later release migrated
    is left as it is: this one runs on it too.

    Raises
    ------
    FedpartyError
        The file is no database, is damaged, or its disk is full.
    """
    file = sqlite_file(settings.database_url)
    prepare_file(file)
    engine = sa.create_engine(f"sqlite:///{file}")
    configure(engine)
    try:
        return _upgrade(engine.execution_options(fedparty_begin="BEGIN EXCLUSIVE"))
    except sa.exc.DBAPIError as exc:
        raise FedpartyError(
            f"{file}: the database cannot be brought to this release's schema: {exc.orig}",
            hint="See that its disk has room and is sound; restore a damaged file from a backup.",
        ) from exc
    finally:
        engine.dispose()


def _upgrade(engine: sa.Engine) -> str:
    with engine.begin() as connection:
        if _revision(connection) < REVISION:
            from alembic import command  # the services import this module for `check`, and need no Alembic

            command.upgrade(_alembic(connection), "head")
        return _revision(connection)


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
    """
    async with database.read() as connection:
        found = await connection.run_sync(_revision)
    if found < REVISION:
        raise ConfigurationError(
            f"the database is at revision {found or 'none'}, this release needs {REVISION}",
            hint="Run in the party's home, or deploy the party again: python -m fedparty migrate",
        )


def _revision(connection: sa.Connection) -> str:
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.scalar(sa.text("SELECT version_num FROM alembic_version")) or "")
