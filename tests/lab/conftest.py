"""What tests of labs share."""

from mariadb import mariadb, mariadb_server

__all__ = ["mariadb", "mariadb_server"]
