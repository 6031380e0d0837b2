"""What the protocol tests share: the kinds of database, each with a real one."""

from __future__ import annotations

import pytest
from flow_party import Databases, sqlite_in
from mariadb import mariadb, mariadb_server

__all__ = ["database", "mariadb", "mariadb_server"]


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest) -> Databases:
    """Makes a database of each kind for a party."""
    if request.param == "sqlite":
        return sqlite_in
    server = request.getfixturevalue("mariadb")
    return lambda _home: server.by_socket(server.create())
