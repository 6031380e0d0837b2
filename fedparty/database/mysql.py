"""MariaDB 10.11 and MySQL 8, through aiomysql (services) and PyMySQL (migrations).

Owns how they are reached (a Unix socket, or a host over TLS and nothing else), the sessions' settings, the lock of
migrations, their errors. Does not own statements.

Isolation: READ COMMITTED. Every change of state is one ``UPDATE … WHERE state IN (…)``, which locks the rows it finds
and sees what was committed before it got the lock; no transaction reads first and writes what it read. So nothing
needs a snapshot or ``SELECT … FOR UPDATE``, and READ COMMITTED takes no gap locks, the usual cause of deadlocks.
Readers run single statements in autocommit mode: one round trip.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import ssl
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiomysql  # type: ignore[import-untyped]
import pymysql
import sqlalchemy as sa
from pymysql.constants import CLIENT, CR, ER
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from fedparty.crypto.files import read_secret
from fedparty.database.backend import Pools, Value
from fedparty.errors import ConfigurationError, DatabaseError

_POOL_SIZE = 4
_RECYCLE_S = 300
"""Age at which a connection is opened anew, before a firewall in between forgets it."""

_CONNECT_S, _TRANSACTION_S = 5, 20
_LOCK_WAIT_S, _MIGRATION_LOCK_WAIT_S = 5, 60
_MIGRATION_S = 3600
"""Limit for one statement of a migration: a large table is rebuilt."""

_SQL_MODE = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
_SESSION = "SET SESSION sql_mode='{mode}', innodb_lock_wait_timeout={wait_s}, lock_wait_timeout={wait_s}"

_SILENCE = (
    "/*M! , idle_transaction_timeout={silence_s} */"  # MariaDB
    "/*!80000 , wait_timeout={silence_s} */"  # MySQL, which has none for transactions; MariaDB skips this version
)
_CONNECTION_KILLED = 1927  # MariaDB's, unknown to PyMySQL
_SILENT_TOO_LONG = 4031  # MySQL's, unknown to PyMySQL
_BROKEN = frozenset(
    {
        CR.CR_CONNECTION_ERROR,
        CR.CR_CONN_HOST_ERROR,
        CR.CR_SERVER_GONE_ERROR,
        CR.CR_SERVER_LOST,
        CR.CR_SERVER_LOST_EXTENDED,
        CR.CR_COMMANDS_OUT_OF_SYNC,
        ER.SERVER_SHUTDOWN,
        _CONNECTION_KILLED,
        _SILENT_TOO_LONG,
    }
)
_CONFLICTS = frozenset({ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT})
_CROWDED = frozenset({ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS, ER.USER_LIMIT_REACHED})

_ACCESS_DENIED_WITHOUT_PASSWORD = 1698  # MariaDB's ER_ACCESS_DENIED_NO_PASSWORD_ERROR
_DENIED = "Compare the user in database_url, and the password in database_password's file, with the server's."
_MISSING = "Create the database, and let the user of database_url do everything in it: GRANT ALL PRIVILEGES."
_AWAY = "Start the database, or look at its log; what was not recorded is recorded when it is back."
_LOCKED = "Look at what holds the lock: SHOW PROCESSLIST; a backup must not lock tables."
_FULL = "Raise the server's max_connections, or the user's limit: each flow takes up to 12 connections."
_NO_TLS = "Give the server a certificate (ssl_cert, ssl_key): a database on another host is only used over TLS."
_CERTIFICATE = "Set database_ca to the CA of its certificate, and name the host in database_url as it does."
_HINTS: Final = {
    ER.ACCESS_DENIED_ERROR: _DENIED,
    _ACCESS_DENIED_WITHOUT_PASSWORD: _DENIED,
    ER.DBACCESS_DENIED_ERROR: _MISSING,
    ER.BAD_DB_ERROR: _MISSING,
    ER.TABLEACCESS_DENIED_ERROR: _MISSING,
    ER.DISK_FULL: "Free space on the database's disk.",
    ER.RECORD_FILE_FULL: "Free space on the database's disk.",
    ER.OPTION_PREVENTS_STATEMENT: "The server is read-only: use its primary.",
    **dict.fromkeys(_CROWDED, _FULL),
    **dict.fromkeys(_CONFLICTS, _LOCKED),
}


class MysqlBackend:
    """A database of a MariaDB or MySQL server.

    Parameters
    ----------
    url
        SQLAlchemy URL, without the password.
    password
        The file that it is read from, again for each connection: it may be changed while the service runs.
    ca
        PEM of the CA that a host's certificate must come from; None: the system's trust store.

    Raises
    ------
    ConfigurationError
        The URL is incomplete or holds a password, or a file cannot be read.
    """

    transaction_s = float(_TRANSACTION_S)

    def __init__(self, url: sa.URL, password: Path | None, ca: Path | None) -> None:
        if url.password is not None:
            hint = "Write it into a file of its own, and name that one as database_password."
            raise ConfigurationError("database_url: a password does not belong here", hint=hint)
        if not (url.username and url.database and url.host):
            hint = "E.g. mysql+aiomysql://fedparty@db.example.org/fedparty."
            raise ConfigurationError("database_url: user, host and database are needed", hint=hint)
        if password is None:
            hint = "Name the file with the password of database_url's user."
            raise ConfigurationError("database_password: it is missing", hint=hint)
        self._url = url
        self._password = password
        self._tls = None if self._socket else _tls_context(ca)
        read_secret(password)

    @property
    def _socket(self) -> str | None:
        path = self._url.query.get("unix_socket")
        return path if isinstance(path, str) else None

    @property
    def place(self) -> str:
        """Where the database is, for messages."""
        return f"{self._url.database} at {self._socket or f'{self._url.host}:{self._port}'}"

    @property
    def _port(self) -> int:
        return self._url.port or 3306

    def open_pools(self, lock_wait_s: float | None, silence_s: float | None) -> Pools:
        """Return pools; they connect when they are used."""
        wait_s = _LOCK_WAIT_S if lock_wait_s is None else max(1, math.ceil(lock_wait_s))
        session = _SESSION.format(mode=_SQL_MODE, wait_s=wait_s)
        writing = session if silence_s is None else session + _SILENCE.format(silence_s=math.ceil(silence_s))
        return Pools(self._pool("AUTOCOMMIT", session), self._pool("READ COMMITTED", writing))

    def writing(self) -> nullcontext[None]:
        """Return nothing to hold: rows are locked by the server."""
        return nullcontext()

    async def run(self, transaction: Coroutine[Any, Any, Value]) -> Value:
        """Run a transaction; one that is broken off ends its connection, and the server undoes it."""
        return await transaction

    def insert_if_absent(self, table: sa.Table) -> sa.Insert:
        """Return an insert that leaves rows alone that are there; ``INSERT IGNORE`` would ignore every error."""
        key = table.primary_key.columns[0]
        return mysql.insert(table).on_duplicate_key_update({key.name: key})

    def is_transient(self, exc: BaseException) -> bool:
        """Return whether the same transaction may succeed at once: on a new connection, or after the other one."""
        if not isinstance(exc, sa.exc.DBAPIError) or _fault_of_handshake(exc.orig) is not None:
            return False
        return _code(exc.orig) in _BROKEN | _CONFLICTS | _CROWDED or isinstance(exc, sa.exc.InterfaceError)

    def error_of(self, exc: Exception) -> DatabaseError:
        """Translate what SQLAlchemy, or a time limit, raised."""
        what, hint = self._explained(exc)
        return DatabaseError(f"the database {self.place} cannot be used: {what}", hint=hint)

    @contextmanager
    def revising(self) -> Iterator[sa.Connection | None]:
        """Yield a connection that changes nothing.

        Raises
        ------
        DatabaseError
            The database cannot be reached.
        """
        with self._telling(), self._engine(_TRANSACTION_S, _LOCK_WAIT_S).connect() as connection:
            yield connection

    @contextmanager
    def migrating(self, timeout_s: float) -> Iterator[sa.Connection]:
        """Yield a connection, in autocommit mode, that holds the lock of this database's migrations.

        Raises
        ------
        DatabaseError
            The database cannot be reached, or another migration runs, for longer than `timeout_s`.
        """
        self._wait_until_up(timeout_s)
        with self._telling(), self._engine(_MIGRATION_S, _MIGRATION_LOCK_WAIT_S).connect() as connection:
            self._lock(connection, timeout_s)
            yield connection  # the server gives the lock back when the connection ends, however it ends

    def _wait_until_up(self, timeout_s: float) -> None:
        retry = Retrying(
            retry=retry_if_exception(self.is_transient),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            stop=stop_after_delay(timeout_s),
            reraise=True,
        )
        with self._telling():
            retry(lambda: self._engine(_CONNECT_S, _LOCK_WAIT_S).connect().close())

    def _lock(self, connection: sa.Connection, timeout_s: float) -> None:
        name = f"fedparty-{hashlib.sha256(str(self._url.database).encode()).hexdigest()[:32]}"
        got = connection.scalar(sa.text("SELECT GET_LOCK(:name, :timeout_s)"), {"name": name, "timeout_s": timeout_s})
        if got != 1:
            raise DatabaseError(
                f"the database {self.place} is being migrated by somebody else, for more than {timeout_s:.0f} s",
                hint="Wait for it, or end it: SHOW PROCESSLIST.",
            )

    def _pool(self, isolation: Any, session: str) -> AsyncEngine:
        return create_async_engine(
            "mysql+aiomysql://",
            connect_args={"async_creator_fn": partial(self._connect, session)},
            isolation_level=isolation,
            pool_size=_POOL_SIZE,
            max_overflow=0,
            pool_timeout=_TRANSACTION_S,
            pool_recycle=_RECYCLE_S,
            pool_reset_on_return=None,  # each transaction was committed or rolled back: saves a round trip
            hide_parameters=True,
        )

    def _engine(self, read_timeout_s: int, lock_wait_s: int) -> sa.Engine:
        session = _SESSION.format(mode=_SQL_MODE, wait_s=lock_wait_s)

        def connect() -> Any:
            connection = pymysql.Connection(
                **self._arguments(session),
                database=self._url.database,
                ssl=self._tls,
                ssl_disabled=self._tls is None,
                read_timeout=read_timeout_s,
                write_timeout=read_timeout_s,
                defer_connect=True,
            )
            connection.connect(_connect_socket(self._socket) if self._socket else None)
            return connection

        return sa.create_engine(
            "mysql+pymysql://",
            creator=connect,
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
        )

    async def _connect(self, session: str, **_arguments: Any) -> aiomysql.Connection:
        connection = _StrictConnection(**self._arguments(session), db=self._url.database, ssl=self._tls)
        try:
            await connection._connect()
        except BaseException:  # also where it is cancelled, which aiomysql leaves open
            connection.close()
            raise
        return connection

    def _arguments(self, session: str) -> dict[str, Any]:
        return {
            "host": self._url.host,
            "port": self._port,
            "unix_socket": self._socket,
            "user": self._url.username,
            # Both drivers encode it as latin1; what the server hashed is UTF-8.
            "password": read_secret(self._password).reveal().encode().decode("latin1"),
            "charset": "utf8mb4",
            "client_flag": CLIENT.FOUND_ROWS,
            "init_command": session,
            "connect_timeout": _CONNECT_S,
        }

    def _explained(self, exc: Exception) -> tuple[str, str]:
        """Return what is wrong and what to do."""
        if isinstance(exc, sa.exc.TimeoutError):
            return "all its connections are in use", _AWAY
        if not isinstance(exc, sa.exc.DBAPIError):
            return f"it did not answer within {_TRANSACTION_S} s", _AWAY
        fault = _fault_of_handshake(exc.orig)
        if isinstance(fault, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {fault.verify_message}", _CERTIFICATE
        if isinstance(fault, ssl.SSLError):
            return f"there is no TLS connection: {fault.reason}", _NO_TLS
        if isinstance(fault, socket.gaierror):
            return f"the host {self._url.host} is unknown: {fault.strerror}", "Correct the host in database_url."
        if _code(exc.orig) == CR.CR_SSL_CONNECTION_ERROR:
            return "the server offers no TLS", _NO_TLS
        return _text(exc.orig), _HINTS.get(_code(exc.orig), _AWAY)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as exc:
            raise self.error_of(exc) from exc


class _StrictConnection(aiomysql.Connection):  # type: ignore[misc]
    """A connection that would rather not be than be in clear; aiomysql's goes on without TLS where there is none."""

    async def _get_server_information(self) -> None:
        await super()._get_server_information()
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server offers no TLS")

    async def ensure_closed(self) -> None:
        """Say good-bye and close; aiomysql leaves the connection open where nobody is there to hear it."""
        try:
            await super().ensure_closed()
        finally:
            self.close()


def _connect_socket(path: str) -> socket.socket:
    """Connect to a Unix socket; PyMySQL's own way leaves one open that cannot be connected."""
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(_CONNECT_S)
        connected.connect(path)
    except OSError as exc:
        connected.close()
        raise pymysql.OperationalError(CR.CR_CONN_HOST_ERROR, f"Can't connect to {path}") from exc
    return connected


def _tls_context(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        hint = "Name a PEM file with the CA of the database's certificate."
        raise ConfigurationError(f"database_ca: {ca}: {reason}", hint=hint) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _code(exc: BaseException | None) -> int:
    first = exc.args[0] if exc is not None and exc.args else 0
    return first if isinstance(first, int) else 0


def _text(exc: BaseException | None) -> str:
    """Return a driver's message, with what the operating system said where it could not connect."""
    reason = _cause(exc)
    if isinstance(reason, TimeoutError):
        return "it did not answer in time"
    if isinstance(reason, OSError):
        return f"there is no connection: {os.strerror(reason.errno) if reason.errno else reason}"
    return str(exc.args[1] if exc is not None and len(exc.args) > 1 else exc)


def _cause(exc: BaseException | None) -> BaseException | None:
    """Return why a driver could not connect: aiomysql chains it, PyMySQL keeps it."""
    return getattr(exc, "original_exception", None) or (exc.__cause__ if exc is not None else None)


def _fault_of_handshake(exc: BaseException | None) -> OSError | None:
    """Return what will be no better in a moment: an unknown host, or a TLS handshake that failed."""
    cause = _cause(exc)
    return cause if isinstance(cause, ssl.SSLError | socket.gaierror) else None
