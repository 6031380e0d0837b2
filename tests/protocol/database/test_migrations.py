"""Migrations at each kind of database: once, whoever calls; again, wherever they broke off."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from click.testing import CliRunner
from databases import settings_with
from flow_party import Databases

from fedparty.cli.migrate import migrate as migrate_command
from fedparty.database import migrate
from fedparty.database.engine import Database, backend_of
from fedparty.database.migrations import expand
from fedparty.errors import ConfigurationError, FedpartyError
from fedparty.flow.tables import METADATA
from fedparty.settings import FlowSettings

VERSIONS = sorted((Path(migrate.__file__).parent / "migrations" / "versions").glob("v*.py"))
JOB = (
    "INSERT INTO jobs (id, initiator, name, description, state, error, hint, created_at, deadline_at, is_held) "
    "VALUES ('j','1','n','d','waiting','','',0,0,0)"
)
"""As the release before the newest migration inserts it."""


@contextmanager
def _connection(settings: FlowSettings) -> Iterator[sa.Connection]:
    with backend_of(settings).migrating(5) as connection:
        yield connection


async def test_a_service_refuses_a_database_that_was_not_migrated(settings: FlowSettings, opened: Database) -> None:
    with pytest.raises(ConfigurationError, match="revision none") as raised:
        await migrate.check(opened)
    assert "fedparty migrate" in raised.value.hint
    assert migrate.upgrade(settings) == migrate.REVISION
    await migrate.check(opened)


def test_migrating_again_changes_nothing(settings: FlowSettings) -> None:
    assert migrate.current(settings) is None
    migrate.upgrade(settings)
    with _connection(settings) as connection:
        connection.execute(sa.text(JOB))
    assert migrate.upgrade(settings) == migrate.REVISION == migrate.current(settings)
    with _connection(settings) as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM jobs")) == 1


async def test_a_database_of_a_later_release_is_left_as_it_is(settings: FlowSettings, opened: Database) -> None:
    migrate.upgrade(settings)
    with _connection(settings) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0042'"))
    assert migrate.upgrade(settings) == "0042" == migrate.current(settings)
    await migrate.check(opened)


def test_two_that_migrate_at_once_wait_for_each_other(settings: FlowSettings, tmp_path: Path) -> None:
    command = _upgrade_in_a_process(settings, tmp_path, "")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=30)[0] for process in both] == 2 * [f"{migrate.REVISION}\n".encode()]


def test_one_that_waits_for_another_gives_up_in_time(settings: FlowSettings) -> None:
    with _connection(settings), pytest.raises(FedpartyError, match=r"locked|migrated by somebody else"):
        migrate.upgrade(settings, 0.2)


@pytest.mark.parametrize("definition", [1, 2, 3, 5, 6, 7])
def test_a_migration_that_is_killed_is_done_by_the_next(
    settings: FlowSettings, opened: Database, tmp_path: Path, definition: int
) -> None:
    killing = (
        "import os, signal, sqlalchemy as sa; seen = []\n"
        "def count(c, cursor, statement, *rest):\n"
        "    seen.extend([1] if statement.strip().startswith(('CREATE', 'INSERT')) else [])\n"
        f"    if len(seen) == {definition}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sa.event.listen(sa.Engine, 'after_cursor_execute', count)\n"
    )
    killed = subprocess.run(_upgrade_in_a_process(settings, tmp_path, killing))
    assert killed.returncode == -9
    assert migrate.upgrade(settings) == migrate.REVISION
    _check_schema(settings)


def test_a_foreign_table_is_not_taken_for_ours(settings: FlowSettings) -> None:
    with _connection(settings) as connection:
        connection.execute(sa.text("CREATE TABLE notices (x INTEGER)"))
    with pytest.raises(FedpartyError, match="already"):
        migrate.upgrade(settings)
    assert migrate.current(settings) is None


def test_the_statements_see_what_the_migrations_make(settings: FlowSettings) -> None:
    migrate.upgrade(settings)
    _check_schema(settings)


def test_what_is_added_may_be_added_again_where_nothing_is_undone(settings: FlowSettings) -> None:
    migrate.upgrade(settings)

    def add() -> None:
        with _connection(settings) as connection, Operations.context(MigrationContext.configure(connection)):
            expand.add_column("jobs", sa.Column("note", sa.String(10)))
            expand.create_index("jobs_by_note", "jobs", ["note"])

    add()
    if settings.database_url.startswith("sqlite"):
        with pytest.raises(FedpartyError, match="duplicate column"):
            add()
    else:
        add()


def test_a_column_that_the_release_before_cannot_fill_is_not_added() -> None:
    with pytest.raises(ValueError, match="server_default"):
        expand.add_column("jobs", sa.Column("note", sa.String(10), nullable=False))


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_migrations_only_expand(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {
        alias.name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }
    assert imported <= {"annotations", "sqlalchemy", "expand"}
    assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] == ["upgrade"]


def test_the_newest_migration_is_what_services_ask_for() -> None:
    assert VERSIONS[-1].stem.startswith(f"v{migrate.REVISION}_")


def test_the_command(database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "bundle" / "flow" / "settings.json"
    file.parent.mkdir(parents=True)
    (tmp_path / "data").mkdir()
    file.write_text(settings_with(**database(tmp_path)).model_dump_json())

    def run(*options: str) -> str:
        return CliRunner().invoke(migrate_command, options, catch_exceptions=False).output

    assert json.loads(run("--check")) == {"current": None, "needed": migrate.REVISION}
    assert run("--timeout", "5") == f"the database is at revision {migrate.REVISION}\n"
    assert json.loads(run("--check")) == {"current": migrate.REVISION, "needed": migrate.REVISION}


def _check_schema(settings: FlowSettings) -> None:
    with _connection(settings) as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA) == []


def _upgrade_in_a_process(settings: FlowSettings, folder: Path, before: str) -> list[str]:
    (folder / "s.json").write_text(settings.model_dump_json())
    script = (
        f"{before}import sys, pathlib; from fedparty.settings import FlowSettings, load\n"
        "from fedparty.database.migrate import upgrade; print(upgrade(load(FlowSettings, pathlib.Path(sys.argv[1]))))"
    )
    return [sys.executable, "-c", script, str(folder / "s.json")]
