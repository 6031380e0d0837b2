"""The database with real files: migrations, locks, transactions, what survives."""

from __future__ import annotations

import ast
import asyncio
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from fedparty.database import migrate
from fedparty.database.engine import Database, sqlite_file
from fedparty.errors import ConfigurationError, DatabaseError, FedpartyError, NotAvailableError
from fedparty.flow.tables import METADATA
from fedparty.settings import FlowSettings

VERSIONS = sorted((Path(migrate.__file__).parent / "migrations" / "versions").glob("v*.py"))


def _settings(url: str) -> FlowSettings:
    fields = dict.fromkeys(("rest", "peer", "egress", "mailbox", "worker", "operations"), "unix:x.sock")
    files = ("proxy_secret", "api_token", "signing_key", "signing_certificate", "ca_certificate", "revocations")
    return FlowSettings(party="10000", federation="lab", database_url=url, **fields, **dict.fromkeys(files, Path("x")))  # type: ignore[arg-type]


@pytest.fixture
def settings(tmp_path: Path) -> FlowSettings:
    return _settings(f"sqlite+aiosqlite:///{tmp_path}/data/flow/flow.db")


@pytest.fixture
async def database(settings: FlowSettings) -> AsyncIterator[Database]:
    opened = Database(settings.database_url)
    yield opened
    await opened.close()


async def _count(database: Database) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(sa.text("SELECT count(*) FROM t")) or 0)


async def _create(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("CREATE TABLE t (x INTEGER PRIMARY KEY)"))


async def _insert(database: Database, x: int) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": x})


async def test_a_service_refuses_a_database_that_was_not_migrated(settings: FlowSettings, database: Database) -> None:
    with pytest.raises(ConfigurationError, match="revision none") as raised:
        await migrate.check(database)
    assert "fedparty migrate" in raised.value.hint
    assert migrate.upgrade(settings) == migrate.REVISION
    await migrate.check(database)


def test_migrating_again_changes_nothing(settings: FlowSettings, tmp_path: Path) -> None:
    migrate.upgrade(settings)
    with _engine(tmp_path).begin() as connection:
        connection.execute(sa.text("INSERT INTO jobs VALUES ('j','1','n','d','waiting','','',0,NULL,NULL,0,0)"))
    assert migrate.upgrade(settings) == migrate.REVISION
    with _engine(tmp_path).connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM jobs")) == 1


async def test_a_database_of_a_later_release_is_left_as_it_is(settings: FlowSettings, tmp_path: Path) -> None:
    migrate.upgrade(settings)
    with _engine(tmp_path).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0042'"))
    assert migrate.upgrade(settings) == "0042"
    database = Database(settings.database_url)
    await migrate.check(database)
    await database.close()


def test_two_that_migrate_at_once_wait_for_each_other(settings: FlowSettings, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(settings.model_dump_json())
    script = (
        "import sys, pathlib; from fedparty.settings import FlowSettings, load;"
        "from fedparty.database.migrate import upgrade; print(upgrade(load(FlowSettings, pathlib.Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "s.json")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=30)[0] for process in both] == [b"0001\n", b"0001\n"]


def test_a_migration_that_fails_leaves_nothing(settings: FlowSettings, tmp_path: Path) -> None:
    migrate.prepare_file(tmp_path / "data" / "flow" / "flow.db")
    with _engine(tmp_path).begin() as connection:
        connection.execute(sa.text("CREATE TABLE notices (x INTEGER)"))
    with pytest.raises(FedpartyError, match="already exists"):
        migrate.upgrade(settings)
    with _engine(tmp_path).connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["notices"]


def test_a_damaged_database_is_named_with_its_remedy(settings: FlowSettings) -> None:
    file = sqlite_file(settings.database_url)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"no database " * 100)
    with pytest.raises(FedpartyError, match=f"{file}: the database cannot be brought .* not a database") as raised:
        migrate.upgrade(settings)
    assert "backup" in raised.value.hint


def test_the_statements_see_what_the_migrations_make(settings: FlowSettings, tmp_path: Path) -> None:
    migrate.upgrade(settings)
    with _engine(tmp_path).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA) == []


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_migrations_only_expand(path: Path) -> None:
    tree = ast.parse(path.read_text())
    called = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _name(node.func.value) == "op"
    }
    assert called <= {"create_table", "create_index", "add_column"}
    assert not any(isinstance(node, ast.FunctionDef) and node.name == "downgrade" for node in tree.body)


def test_the_newest_migration_is_what_services_ask_for() -> None:
    assert VERSIONS[-1].stem.startswith(f"v{migrate.REVISION}_")


async def test_files_are_private(settings: FlowSettings, database: Database, tmp_path: Path) -> None:
    await _create(database)
    folder = tmp_path / "data" / "flow"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


async def test_what_raises_is_undone(database: Database) -> None:
    await _create(database)

    async def insert_twice() -> None:
        async with database.write() as connection:
            await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
            await connection.execute(sa.text("INSERT INTO t VALUES (1)"))

    with pytest.raises(sa.exc.IntegrityError):
        await insert_twice()
    assert await _count(database) == 0


async def test_what_is_cancelled_is_undone_and_the_next_writes(database: Database) -> None:
    await _create(database)
    entered = asyncio.Event()

    async def write_and_wait() -> None:
        async with database.write() as connection:
            await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_and_wait())
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await _insert(database, 2)
    assert await _count(database) == 1


async def test_writers_queue_and_readers_do_not_wait(database: Database) -> None:
    await _create(database)
    async with database.write() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (0)"))
        others = [asyncio.create_task(_insert(database, x)) for x in range(1, 30)]
        assert await _count(database) == 0
    await asyncio.gather(*others)
    assert await _count(database) == 30


async def test_cancelling_many_leaves_no_lock(database: Database) -> None:
    await _create(database)
    tasks = [asyncio.create_task(_insert(database, x)) for x in range(40)]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0)
        if number % 2:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await _insert(database, 100)
    assert await _count(database) >= 21


async def test_a_full_disk_is_named_and_what_was_written_is_undone(database: Database, tmp_path: Path) -> None:
    await _create(database)

    async def fill() -> None:
        async with database.write() as connection:
            await connection.execute(sa.text("PRAGMA max_page_count=4"))
            await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
            await connection.execute(sa.text("CREATE TABLE u (y BLOB)"))
            await connection.execute(sa.text("INSERT INTO u VALUES (zeroblob(100000))"))

    with pytest.raises(DatabaseError, match=f"{tmp_path}.*full") as raised:
        await fill()
    assert "disk" in raised.value.hint
    assert await _count(database) == 0


async def test_foreign_keys_are_held(settings: FlowSettings, database: Database) -> None:
    migrate.upgrade(settings)
    with pytest.raises(sa.exc.IntegrityError):
        async with database.write() as connection:
            await connection.execute(sa.text("INSERT INTO notices VALUES ('nobody', '1', 0)"))


async def test_a_commit_survives_kill_9(settings: FlowSettings, database: Database, tmp_path: Path) -> None:
    await _create(database)
    script = (
        "import asyncio, os, signal, sys, sqlalchemy as sa; from fedparty.database.engine import Database\n"
        "async def main():\n"
        "    database = Database(sys.argv[1])\n"
        "    async with database.write() as connection:\n"
        "        await connection.execute(sa.text('INSERT INTO t VALUES (7)'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())"
    )
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, settings.database_url])
    assert killed.returncode == -9
    assert await _count(database) == 1


async def test_closing_leaves_no_thread(settings: FlowSettings) -> None:
    before = set(threading.enumerate())
    database = Database(settings.database_url)
    await _create(database)
    await database.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("mysql+asyncmy://u:p@h/d", NotAvailableError),
        ("sqlite+aiosqlite://", ConfigurationError),
        ("sqlite+aiosqlite:///:memory:", ConfigurationError),
        ("no url", ConfigurationError),
    ],
)
def test_what_is_no_database_of_a_service(url: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="database_url"):
        Database(url)
    with pytest.raises(error, match="database_url"):
        migrate.upgrade(_settings(url))


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _engine(tmp_path: Path) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{tmp_path}/data/flow/flow.db", poolclass=sa.NullPool)
