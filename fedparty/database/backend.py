"""What a kind of database is to the rest of the package.

Owns the interface. Does not own any of its implementations: `fedparty.database.sqlite`, `fedparty.database.mysql`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from fedparty.errors import DatabaseError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Pools:
    """Open connections, by what they are for."""

    readers: AsyncEngine
    writers: AsyncEngine

    async def close(self) -> None:
        """Close every connection."""
        await self.readers.dispose()
        await self.writers.dispose()


class Backend(Protocol):
    """A kind of database, at one place.

    Constraints
    -----------
    A statement means the same at each: text compares by bytes, ``rowcount`` counts the rows that matched, foreign keys
    are held, what does not fit its column is an error.
    """

    @property
    def transaction_s(self) -> float | None:
        """Limit for one transaction; None: it cannot hang."""
        ...

    def open_pools(self, lock_wait_s: float | None, silence_s: float | None) -> Pools:
        """Return pools; they connect when they are used.

        Parameters
        ----------
        lock_wait_s
            How long a lock is waited for; None: as long as is usual.
        silence_s
            After how long the server undoes a transaction whose client says nothing more; None: when the connection
            breaks.

        Raises
        ------
        ConfigurationError
            `silence_s` is given, and the database is not for several services.
        """
        ...

    def writing(self) -> AbstractAsyncContextManager[object]:
        """Return what a writer holds beside its transaction."""
        ...

    async def run(self, transaction: Coroutine[Any, Any, Value]) -> Value:
        """Run a transaction; where its caller is cancelled meanwhile, nothing of it is left open."""
        ...

    def insert_if_absent(self, table: sa.Table) -> sa.Insert:
        """Return an insert that leaves rows alone that are there, and fails for every other reason."""
        ...

    def is_transient(self, exc: BaseException) -> bool:
        """Return whether the same transaction may succeed at once when it is done again."""
        ...

    def error_of(self, exc: Exception) -> DatabaseError:
        """Translate what SQLAlchemy, or a time limit, raised."""
        ...

    def revising(self) -> AbstractContextManager[sa.Connection | None]:
        """Return a connection that changes nothing; None: there is no database yet."""
        ...

    def migrating(self, timeout_s: float) -> AbstractContextManager[sa.Connection]:
        """Return a connection that holds the lock of migrations, and wait for both."""
        ...
