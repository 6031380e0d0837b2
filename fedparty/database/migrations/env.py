"""Alembic's entry: runs the migrations on the connection, and in the transaction, that the caller opened."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=connection.dialect.name == "sqlite")
context.run_migrations()
