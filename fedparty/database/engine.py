"""Opens a database and hands out transactions.

Owns the connection settings (SQLite: WAL, foreign keys, busy time-out) and the two kinds of transaction. Does not own
statements, nor the schema: see `fedparty.database.migrate`.

Durability: ``synchronous=NORMAL``. A commit survives the death of the process (kill -9) because WAL pages are in the
kernel's cache before it returns; only a power cut can take the last commits, never the database's consistency. A job
acknowledged in those last milliseconds would be submitted again by its user; fsync on each of a job's dozen commits
would cost more than the job.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from fedparty.errors import ConfigurationError, DatabaseError, NotAvailableError

BUSY_TIMEOUT_S = 30
"""How long a transaction waits for another process, which is a migration."""

_DISK_HINT = "Look at the free space of its disk, and for another program that has it open."
_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}",  # first: the next one takes a lock
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)
_BEGIN = "fedparty_begin"


class Database:
    """A database of one service.

    Parameters
    ----------
    url
        SQLAlchemy URL, e.g. ``sqlite+aiosqlite:///data/flow/flow.db``.

    Raises
    ------
    NotAvailableError
        The URL is of a database that this release cannot use.
    """

    def __init__(self, url: str) -> None:
        self._file = sqlite_file(url)
        prepare_file(self._file)
        self._engine: AsyncEngine = create_async_engine(url, pool_size=4, max_overflow=0, pool_timeout=BUSY_TIMEOUT_S)
        configure(self._engine.sync_engine)
        self._writer = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._write_lock = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that sees one state of the database and changes nothing.

        Raises
        ------
        DatabaseError
            The database cannot be read now.
        """
        with self._telling():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that is committed at the end of the block, or undone where the block raises.

        It holds the database's write lock from its beginning, so it never fails for another one's commit. Inside the
        process writers queue here, fairly, rather than in SQLite, which polls.

        Raises
        ------
        DatabaseError
            The database cannot be written now; nothing was.
        """
        with self._telling():
            async with self._write_lock, self._writer.begin() as connection:
                yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.OperationalError as exc:
            raise DatabaseError(f"the database {self._file} cannot be used: {exc.orig}", hint=_DISK_HINT) from exc


def sqlite_file(url: str) -> Path:
    """Return the file of a SQLite URL.

    Raises
    ------
    NotAvailableError
        It is a URL of another database.
    ConfigurationError
        It is not a URL, or names no file.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as exc:
        raise ConfigurationError("database_url: this is not an SQLAlchemy URL", hint=_EXAMPLE) from exc
    if parsed.get_backend_name() != "sqlite":
        raise NotAvailableError(f"database_url: {parsed.drivername} is not available in this release", hint=_EXAMPLE)
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigurationError("database_url: a file is needed: jobs must survive a restart", hint=_EXAMPLE)
    return Path(parsed.database)


_EXAMPLE = "Use SQLite, e.g. sqlite+aiosqlite:///data/flow/flow.db."


def prepare_file(file: Path) -> None:
    """Create the file and its folder, private from the first byte (SQLite gives its WAL the same mode)."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


def configure(engine: sa.Engine) -> None:
    """Set up each connection, and let SQLAlchemy rather than the driver begin transactions."""

    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)
