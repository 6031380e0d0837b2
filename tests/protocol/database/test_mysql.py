"""What is MariaDB's and MySQL's alone: how they are reached, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from databases import count, create, execute, insert, settings_with
from mariadb import PASSWORD, USER, MariaDb
from ports import free_port
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database import migrate
from fedparty.database.engine import Database
from fedparty.database.mysql import MysqlBackend
from fedparty.errors import ConfigurationError, DatabaseError, NotAvailableError

forgets_sockets = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""PyMySQL leaves a socket that could not be connected to the garbage collector."""


@asynccontextmanager
async def _opened(settings: dict[str, Any]) -> AsyncIterator[Database]:
    database = Database(settings_with(**settings))
    try:
        yield database
    finally:
        await database.close()


async def _variables(database: Database) -> dict[str, str]:
    async def work(connection: AsyncConnection) -> dict[str, str]:
        session = "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'sql_mode')"
        rows = [*await connection.execute(sa.text(session))]
        rows += await connection.execute(sa.text("SHOW SESSION STATUS LIKE 'Ssl_%i%'"))
        return {str(name): str(value) for name, value in rows}

    return await database.write(work)


async def test_a_host_is_reached_over_tls_only(mariadb: MariaDb) -> None:
    for host in ("127.0.0.1", "localhost"):
        async with _opened(mariadb.by_host(mariadb.create(), host)) as database:
            variables = await _variables(database)
            assert variables["Ssl_cipher"]
            assert variables["Ssl_version"] in ("TLSv1.2", "TLSv1.3")
            assert variables["tx_isolation"] == "READ-COMMITTED"
            assert variables["sql_mode"] == "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
            await create(database)
            await asyncio.gather(*(insert(database, x) for x in range(20)))
            assert await count(database) == 20


def test_a_host_is_migrated_over_tls(mariadb: MariaDb) -> None:
    assert migrate.upgrade(settings_with(**mariadb.by_host(mariadb.create()))) == migrate.REVISION


async def _refused(settings: dict[str, Any]) -> DatabaseError:
    """Return how a service and the migrations are refused, which is the same."""
    async with _opened(settings) as database:
        with pytest.raises(DatabaseError) as serving:
            await count(database)
        assert await database.fault(5) == serving.value.message
    with pytest.raises(DatabaseError) as migrating:
        await asyncio.to_thread(migrate.upgrade, settings_with(**settings), 0.2)
    assert migrating.value.message == serving.value.message
    shown = f"{serving.value!r} {serving.value} {serving.value.hint} {serving.value.__cause__!r}"
    assert "pa'ss" not in shown
    assert serving.value.hint
    return serving.value


async def test_a_wrong_password(mariadb: MariaDb, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pa'ssing")
    for settings in (mariadb.by_socket(mariadb.create()), mariadb.by_host(mariadb.create())):
        error = await _refused(settings | {"database_password": tmp_path / "password"})
        assert f"Access denied for user '{USER}'" in error.message
        assert "database_password" in error.hint


async def test_a_password_that_was_changed_is_read_again(mariadb: MariaDb, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("pa'ssing")
    async with _opened(mariadb.by_socket(mariadb.create()) | {"database_password": password}) as database:
        assert "Access denied" in await database.fault(5)
        password.write_text(PASSWORD)
        assert await database.fault(5) == ""
        password.unlink()
        with pytest.raises(DatabaseError, match="password: No such file"):
            await create(database)  # on a connection of its own


async def test_an_unknown_database(mariadb: MariaDb) -> None:
    mariadb.create()
    error = await _refused(mariadb.by_socket("nowhere"))
    assert "nowhere" in error.message
    assert "GRANT" in error.hint


async def test_an_unknown_host(mariadb: MariaDb) -> None:
    error = await _refused(mariadb.by_host("flow", "database.invalid"))
    assert "the host database.invalid is unknown" in error.message


@forgets_sockets
async def test_nobody_listens(mariadb: MariaDb, tmp_path: Path) -> None:
    url = f"mysql+aiomysql://{USER}@127.0.0.1:{free_port()}/flow"
    error = await _refused(mariadb.by_host("flow") | {"database_url": url})
    assert "flow at 127.0.0.1:" in error.message
    assert "there is no connection" in error.message
    url = f"mysql+aiomysql://{USER}@localhost/flow?unix_socket={tmp_path}/none.sock"
    error = await _refused(mariadb.by_host("flow") | {"database_url": url})
    assert f"flow at {tmp_path}/none.sock" in error.message
    assert "No such file" in error.message
    del error
    gc.collect()


async def test_a_server_without_tls_is_not_told_the_password(mariadb: MariaDb) -> None:
    name, port, said = mariadb.create(), free_port(), bytearray()
    mariadb.restart(tls=False)

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", mariadb.port)
        writer.write(await server.read(1000))
        said.extend(await reader.read())
        to_server.close()
        writer.close()

    url = f"mysql+aiomysql://{USER}@127.0.0.1:{port}/{name}"
    async with await asyncio.start_server(between, "127.0.0.1", port):
        error = await _refused(mariadb.by_host(name) | {"database_url": url})
    assert error.message.endswith("the server offers no TLS")
    assert said == b""


async def test_a_certificate_that_is_not_trusted(mariadb: MariaDb) -> None:
    error = await _refused(mariadb.by_host(mariadb.create()) | {"database_ca": None})
    assert "its certificate is not accepted: " in error.message
    assert "database_ca" in error.hint


async def test_a_certificate_of_another_host(mariadb: MariaDb) -> None:
    name = mariadb.create()
    mariadb.restart(options=("--bind-address=127.0.0.2",))
    error = await _refused(mariadb.by_host(name, "127.0.0.2"))
    assert "is not valid for '127.0.0.2'" in error.message


async def test_too_many_connections(mariadb: MariaDb) -> None:
    settings = mariadb.by_socket(mariadb.create())
    with mariadb.admin() as cursor:
        cursor.execute(f"GRANT USAGE ON *.* TO '{USER}'@'%' WITH MAX_USER_CONNECTIONS 1")
    try:
        async with _opened(settings) as first:
            await create(first)
            async with _opened(settings) as second:
                with pytest.raises(DatabaseError, match="max_user_connections") as raised:
                    await count(second)
                assert "limit" in raised.value.hint
    finally:
        with mariadb.admin() as cursor:
            cursor.execute(f"GRANT USAGE ON *.* TO '{USER}'@'%' WITH MAX_USER_CONNECTIONS 0")


async def test_a_deadlock_is_done_again(mariadb: MariaDb) -> None:
    async with _opened(mariadb.by_socket(mariadb.create())) as database:
        await execute(database, "CREATE TABLE t (x INTEGER PRIMARY KEY, y INTEGER) ENGINE=InnoDB")
        await execute(database, "INSERT INTO t VALUES (1, 0), (2, 0)")
        both = asyncio.Barrier(2)
        tries = 0

        async def add(connection: AsyncConnection, first: int, second: int) -> None:
            nonlocal tries
            tries += 1
            await connection.execute(sa.text("UPDATE t SET y = y + 1 WHERE x = :x"), {"x": first})
            if tries <= 2:
                await both.wait()
            await connection.execute(sa.text("UPDATE t SET y = y + 1 WHERE x = :x"), {"x": second})

        await asyncio.gather(database.write(lambda c: add(c, 1, 2)), database.write(lambda c: add(c, 2, 1)))
        assert tries == 3
        assert await count(database, "t WHERE y = 2") == 2


async def test_a_broken_connection_is_opened_again_and_its_transaction_done_again(mariadb: MariaDb) -> None:
    async with _opened(mariadb.by_socket(mariadb.create())) as database:
        await create(database)
        tries = 0

        async def work(connection: AsyncConnection) -> None:
            nonlocal tries
            tries += 1
            await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
            if tries == 1:
                number = await connection.scalar(sa.text("SELECT connection_id()"))
                with mariadb.admin() as cursor:
                    cursor.execute(f"KILL {number}")
            await connection.execute(sa.text("INSERT INTO t VALUES (2)"))

        await database.write(work)
        assert tries == 2
        mariadb.restart()
        assert await count(database) == 2
        mariadb.restart()
        await insert(database, 3)
        assert await count(database) == 3


async def test_a_server_that_is_away_is_told_soon_and_is_found_again(mariadb: MariaDb) -> None:
    async with _opened(mariadb.by_socket(mariadb.create())) as database:
        await create(database)
        mariadb.kill()
        async with asyncio.timeout(5):
            with pytest.raises(DatabaseError, match="there is no connection") as raised:
                await insert(database, 1)
        assert "Start the database" in raised.value.hint
        mariadb.start()
        await insert(database, 1)
        assert await count(database) == 1


async def test_a_server_that_holds_still_is_given_up(mariadb: MariaDb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MysqlBackend, "transaction_s", 0.3)
    async with _opened(mariadb.by_socket(mariadb.create())) as database:
        await create(database)
        with mariadb.paused():
            with pytest.raises(DatabaseError, match="did not answer"):
                await insert(database, 1)
            assert await database.fault(0.2) == "does not answer"
        await insert(database, 2)
        assert await count(database, "t WHERE x = 2") == 1


@forgets_sockets
def test_a_database_that_is_being_started_is_waited_for(mariadb: MariaDb) -> None:
    settings = settings_with(**mariadb.by_socket(mariadb.create()))
    mariadb.kill()
    mariadb.launch()
    assert migrate.upgrade(settings, 30) == migrate.REVISION
    gc.collect()


async def test_text_compares_by_bytes(mariadb: MariaDb) -> None:
    settings = mariadb.by_socket(mariadb.create())
    migrate.upgrade(settings_with(**settings))
    async with _opened(settings) as database:
        ids = ["a", "A", "ä", "a ", "a\u0301"]
        for each in ids:
            columns = "id, initiator, name, description, state, error, hint, created_at, deadline_at, is_held"
            values = ":id,'1','n','d','waiting','','',0,0,0"
            await execute(database, f"INSERT INTO jobs ({columns}) VALUES ({values})", id=each)
            assert await count(database, f"jobs WHERE id = '{each}'") == 1


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("mysql+asyncmy://u@h/d", NotAvailableError),
        ("postgresql+asyncpg://u@h/d", NotAvailableError),
        ("mysql+aiomysql://u:geheim@h/d", ConfigurationError),
        ("mysql+aiomysql://h/d", ConfigurationError),
        ("mysql+aiomysql://u@h", ConfigurationError),
        ("mysql+aiomysql://u@h/d?ssl_disabled=true", ConfigurationError),
        ("sqlite+aiosqlite://", ConfigurationError),
        ("sqlite+aiosqlite:///:memory:", ConfigurationError),
        ("no url", ConfigurationError),
    ],
)
def test_what_is_no_database_of_a_service(url: str, error: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    settings = settings_with(database_url=url, database_password=tmp_path / "password")
    for use in (Database, migrate.upgrade, migrate.current):
        with pytest.raises(error, match="database_url") as raised:
            use(settings)
        assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("files", "about"),
    [
        ({}, "database_password: it is missing"),
        ({"database_password": "absent"}, "absent: No such file"),
        ({"database_password": "password", "database_ca": "absent"}, "database_ca: .*absent: No such file"),
        ({"database_password": "password", "database_ca": "password"}, "database_ca"),
    ],
)
def test_files_that_cannot_be_used(files: dict[str, str], about: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    paths = {key: tmp_path / name for key, name in files.items()}
    with pytest.raises(ConfigurationError, match=about):
        Database(settings_with(database_url="mysql+aiomysql://u@h/d", **paths))


def test_tls_is_as_strict_as_python_makes_it(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    context = MysqlBackend(sa.make_url("mysql+aiomysql://u@h/d"), tmp_path / "password", None)._tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
