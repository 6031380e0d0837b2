"""SQLite: one file, one writer.

Owns its settings (WAL, foreign keys, busy time-out), its two kinds of transaction, its errors. Does not own statements.

Durability: ``synchronous=NORMAL``. A commit survives the death of the process (kill -9) because WAL pages are in the
kernel's cache before it returns; only a power cut can take the last commits, never the database's consistency. A job
acknowledged in those last milliseconds would be submitted again by its user; fsync on each of a job's dozen commits
would cost more than the job.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import create_async_engine

from fedparty.database.backend import Pools, Value
from fedparty.errors import ConfigurationError, DatabaseError, FedpartyError

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 30
"""How long a transaction waits for another process, which is a migration."""

_SERVER = "Several replicas of a flow need a database server, MariaDB or MySQL: the keys database.* in parties.conf."
_EXAMPLE = "Use SQLite, e.g. sqlite+aiosqlite:///data/flow/flow.db."
_DISK_HINT = "Look at the free space of its disk, and for another program that has it open."
_PRAGMAS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA foreign_keys=ON")
_BEGIN = "fedparty_begin"


class SqliteBackend:
    """A SQLite file.

    Parameters
    ----------
    url
        SQLAlchemy URL, e.g. ``sqlite+aiosqlite:///data/flow/flow.db``.

    Raises
    ------
    ConfigurationError
        It names no file.
    """

    transaction_s = None

    def __init__(self, url: sa.URL) -> None:
        if not url.database or url.database == ":memory:":
            raise ConfigurationError("database_url: a file is needed: jobs must survive a restart", hint=_EXAMPLE)
        self.file = Path(url.database)
        self._write_lock = asyncio.Lock()

    def open_pools(self, lock_wait_s: float | None, silence_s: float | None) -> Pools:
        """Return pools; the file is there from now on.

        Raises
        ------
        ConfigurationError
            `silence_s` is given: nobody ends the transaction of a process that is stopped.
        """
        if silence_s is not None:
            raise ConfigurationError(f"database_url: SQLite ({self.file}) is for one flow alone", hint=_SERVER)
        prepare_file(self.file)
        engine = create_async_engine(
            sa.URL.create("sqlite+aiosqlite", database=str(self.file)),
            pool_size=4,
            max_overflow=0,
            pool_timeout=BUSY_TIMEOUT_S,
            hide_parameters=True,
        )
        configure(engine.sync_engine, BUSY_TIMEOUT_S if lock_wait_s is None else lock_wait_s)
        return Pools(
            engine.execution_options(**{_BEGIN: ""}),  # each statement sees one state; as at the other kind, no two do
            engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}),
        )

    def writing(self) -> asyncio.Lock:
        """Return the process's write lock: writers queue here, fairly, rather than in SQLite, which polls."""
        return self._write_lock

    async def run(self, transaction: Coroutine[Any, Any, Value]) -> Value:
        """Run a transaction to its end, also where its caller is cancelled.

        What a driver's thread does cannot be broken off: SQLAlchemy gives such a connection up, and whatever it had
        begun would go on to hold the lock.
        """
        running = asyncio.create_task(transaction)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            if (exc := running.exception()) is not None:
                logger.debug("the transaction of a caller that was cancelled has failed: %s", exc)
            raise

    def insert_if_absent(self, table: sa.Table) -> sa.Insert:
        """Return an insert that leaves rows alone that are there."""
        return sqlite.insert(table).on_conflict_do_nothing()

    def is_transient(self, _exc: BaseException) -> bool:
        """Return False: a writer holds the lock from its beginning, and has waited for it."""
        return False

    def error_of(self, exc: Exception) -> DatabaseError:
        """Translate what SQLAlchemy raised."""
        reason = exc.orig if isinstance(exc, sa.exc.DBAPIError) else exc
        return DatabaseError(f"the database {self.file} cannot be used: {reason}", hint=_DISK_HINT)

    @contextmanager
    def revising(self) -> Iterator[sa.Connection | None]:
        """Yield a connection that changes nothing; None: there is no file yet.

        Raises
        ------
        FedpartyError
            The file is no database, or is damaged.
        """
        if not self.file.exists():
            yield None
            return
        only_reading = f"{self.file.absolute().as_uri()}?mode=ro"
        engine = sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(only_reading, uri=True), poolclass=sa.NullPool
        )
        with self._telling("read"), engine.connect() as connection:
            yield connection

    @contextmanager
    def migrating(self, timeout_s: float) -> Iterator[sa.Connection]:
        """Yield a transaction that keeps everybody else out; all that is done in it is done, or nothing.

        Raises
        ------
        FedpartyError
            The file is no database, is damaged, or its disk is full.
        """
        prepare_file(self.file)
        engine = sa.create_engine(sa.URL.create("sqlite", database=str(self.file)), poolclass=sa.NullPool)
        configure(engine, timeout_s)
        exclusive = engine.execution_options(**{_BEGIN: "BEGIN EXCLUSIVE"})
        with self._telling("brought to this release's schema"), exclusive.begin() as connection:
            yield connection

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as exc:
            raise FedpartyError(
                f"{self.file}: the database cannot be {what}: {exc.orig}",
                hint="See that its disk has room and is sound; restore a damaged file from a backup.",
            ) from exc


def prepare_file(file: Path) -> None:
    """Create the file and its folder, private from the first byte (SQLite gives its WAL the same mode)."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


def configure(engine: sa.Engine, busy_timeout_s: float) -> None:
    """Set up each connection, and let SQLAlchemy rather than the driver begin transactions."""
    wait = f"PRAGMA busy_timeout={round(busy_timeout_s * 1000)}"  # first: the next one takes a lock

    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (wait, *_PRAGMAS):
            cursor.execute(pragma)
        cursor.close()

    def on_begin(connection: sa.Connection) -> None:
        if statement := connection.get_execution_options().get(_BEGIN, "BEGIN"):
            connection.exec_driver_sql(statement)

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)
