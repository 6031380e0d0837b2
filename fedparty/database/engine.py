"""Opens a database and runs transactions.

Owns which kind of database a URL names, and the two kinds of transaction: one that reads, one that writes, each done
again where that may help. Does not own a kind's ways (`sqlite`, `mysql`), statements, nor the schema
(`fedparty.database.migrate`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_after_delay, stop_all
from tenacity.wait import wait_random_exponential

from fedparty.database.backend import Backend
from fedparty.database.sqlite import SqliteBackend
from fedparty.errors import ConfigurationError, DatabaseError, FedpartyError, NotAvailableError
from fedparty.settings import FlowSettings

_PATIENCE_S, _MIN_ATTEMPTS = 2.0, 3
"""How long, and how often at least, a transaction is done again before its caller hears of it."""

_EXAMPLE = (
    "Use SQLite, e.g. sqlite+aiosqlite:///data/flow/flow.db, or MariaDB or MySQL, e.g. "
    "mysql+aiomysql://fedparty@db.example.org/fedparty."
)
_FOREIGN = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError, TimeoutError)

Value = TypeVar("Value")
Work = Callable[[AsyncConnection], Awaitable[Value]]
Fence = Callable[[AsyncConnection], Awaitable[None]]


class Database:
    """The database of one service.

    Parameters
    ----------
    settings
        Where it is, and how it is reached.
    lock_wait_s
        How long each attempt of a transaction waits for somebody else's lock; None: as long as is usual.
    silence_s
        After how long the server undoes a transaction of this service that says nothing more, so that a stopped process
        holds no locks; None: when its connection breaks.
    fence
        What each transaction that writes does before all else; raises to undo it.

    Raises
    ------
    NotAvailableError
        The URL is of a database that this release cannot use.
    ConfigurationError
        The URL, or a file beside it, cannot be used.
    """

    def __init__(
        self,
        settings: FlowSettings,
        *,
        lock_wait_s: float | None = None,
        silence_s: float | None = None,
        fence: Fence | None = None,
    ) -> None:
        self._backend = backend_of(settings)
        self._pools = self._backend.open_pools(lock_wait_s, silence_s)
        self._fence = fence

    async def read(self, work: Work[Value]) -> Value:
        """Run statements that change nothing, and return what `work` returns.

        Raises
        ------
        DatabaseError
            The database cannot be read now.
        """
        return await self._repeat(partial(self._read_once, work))

    async def write(self, work: Work[Value]) -> Value:
        """Run statements in one transaction: committed where `work` returns, undone where it raises.

        Where the connection breaks, or another transaction is in the way, all of it is done again.

        Parameters
        ----------
        work
            May be done again although it was committed: a connection that breaks in the commit does not say which.
            Then it must find nothing left to do.

        Raises
        ------
        DatabaseError
            The database cannot be written now.
        """
        return await self._repeat(partial(self._write_once, work))

    def insert_if_absent(self, table: sa.Table) -> sa.Insert:
        """Return an insert that leaves rows alone that are there, and fails for every other reason."""
        return self._backend.insert_if_absent(table)

    async def fault(self, timeout_s: float) -> str:
        """Return why the database cannot be used now; empty: it can."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._telling(partial(self._read_once, _ask))
        except TimeoutError:
            return "does not answer"
        except DatabaseError as exc:
            return exc.message
        return ""

    async def close(self) -> None:
        """Close every connection."""
        await self._pools.close()

    async def _repeat(self, transaction: Callable[[], Awaitable[Value]]) -> Value:
        return await self._telling(partial(self._until_done, transaction))

    async def _until_done(self, transaction: Callable[[], Awaitable[Value]]) -> Value:
        try:
            return await transaction()  # what succeeds at once does without tenacity: see `fedparty.rpc.channels`
        except Exception as exc:
            if not self._backend.is_transient(exc):
                raise

        async def attempt() -> Value:  # tenacity awaits coroutine functions only, not every callable
            return await transaction()

        retry = AsyncRetrying(
            retry=retry_if_exception(self._backend.is_transient),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            stop=stop_all(stop_after_attempt(_MIN_ATTEMPTS - 1), stop_after_delay(_PATIENCE_S)),
            reraise=True,
        )
        return await retry(attempt)

    async def _read_once(self, work: Work[Value]) -> Value:
        return await self._backend.run(self._transaction(self._pools.readers.connect(), work))

    async def _write_once(self, work: Work[Value]) -> Value:
        async def fenced(connection: AsyncConnection) -> Value:
            if self._fence is not None:
                await self._fence(connection)
            return await work(connection)

        async with self._backend.writing():
            return await self._backend.run(self._transaction(self._pools.writers.begin(), fenced))

    async def _transaction(self, opened: AbstractAsyncContextManager[AsyncConnection], work: Work[Value]) -> Value:
        async with asyncio.timeout(self._backend.transaction_s), opened as connection:
            return await work(connection)

    async def _telling(self, transaction: Callable[[], Awaitable[Value]]) -> Value:
        try:
            return await transaction()
        except _FOREIGN as exc:
            raise self._backend.error_of(exc) from exc
        except FedpartyError as exc:  # a file that was there at the start is needed to connect again
            raise DatabaseError(exc.message, hint=exc.hint) from exc


def backend_of(settings: FlowSettings) -> Backend:
    """Return the database that the settings name.

    Raises
    ------
    NotAvailableError
        It is of a kind that this release cannot use.
    ConfigurationError
        It is not a URL, or an incomplete one.
    """
    try:
        url = sa.make_url(settings.database_url)
    except sa.exc.ArgumentError:
        raise ConfigurationError("database_url: this is not an SQLAlchemy URL", hint=_EXAMPLE) from None
    if unknown := sorted(set(url.query) - {"unix_socket"}):
        raise ConfigurationError(f"database_url: there is no option {', '.join(unknown)}", hint=_EXAMPLE)
    if url.drivername == "sqlite+aiosqlite":
        return SqliteBackend(url)
    if url.drivername == "mysql+aiomysql":
        from fedparty.database.mysql import MysqlBackend  # whoever uses SQLite need not load a second driver

        return MysqlBackend(url, settings.database_password, settings.database_ca)
    raise NotAvailableError(f"database_url: {url.drivername} is not available in this release", hint=_EXAMPLE)


async def _ask(connection: AsyncConnection) -> None:
    await connection.execute(sa.text("SELECT 1"))
