"""The only words of a migration: each adds something, and none takes anything away.

Owns that a migration which broke off can be run again where the database commits each definition at once (MariaDB,
MySQL), and how text compares there. SQLite undoes a migration as a whole, so there whatever is in the way is an error.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from fedparty.errors import DatabaseError

LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
"""Text of any length; MySQL's TEXT holds 64 KiB."""

LONG_BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
"""Bytes of any number; MySQL's BLOB holds 64 KiB."""


def create_table(name: str, *columns: sa.Column[Any]) -> None:
    """Create a table."""
    if _is_done(name):
        _check_columns(name, {column.name for column in columns})
        return
    op.create_table(name, *columns, mysql_engine="InnoDB", mysql_charset="utf8mb4", mysql_collate=_collation())


def create_index(name: str, table: str, columns: list[str], *, unique: bool = False) -> None:
    """Create an index; a unique one is for a column that is new, too."""
    if not (_is_done(table) and name in {index["name"] for index in _inspector().get_indexes(table)}):
        op.create_index(name, table, columns, unique=unique)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column, which the release before this one does not fill.

    Raises
    ------
    ValueError
        The column must have a value, and the database knows none.
    """
    if not column.nullable and column.server_default is None:
        raise ValueError(f"{table}.{column.name}: a new column is nullable, or has a server_default")
    if not (_is_done(table) and column.name in _columns(table)):
        op.add_column(table, column)


def _is_done(table: str) -> bool:
    """Return whether a table may be there from an earlier run that broke off."""
    return op.get_bind().dialect.name == "mysql" and _inspector().has_table(table)


def _check_columns(table: str, needed: set[str]) -> None:
    if _columns(table) != needed:
        raise DatabaseError(
            f"the database has a table {table} already, and it is not fedparty's",
            hint="Give fedparty a database of its own.",
        )


def _columns(table: str) -> set[str]:
    return {column["name"] for column in _inspector().get_columns(table)}


def _inspector() -> sa.Inspector:
    return sa.inspect(op.get_bind())  # a new one each time: it remembers what it saw


def _collation() -> str:
    """Return the collation by which text compares by its bytes; the two servers name it differently."""
    return "utf8mb4_nopad_bin" if getattr(op.get_bind().dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
