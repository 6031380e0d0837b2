"""What is SQLite's alone: its file, its disk, its lock."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from databases import count, create, execute, settings_with

from fedparty.database import migrate
from fedparty.database.engine import Database
from fedparty.errors import DatabaseError, FedpartyError
from fedparty.settings import FlowSettings


@pytest.fixture
def settings(tmp_path: Path) -> FlowSettings:
    return settings_with(database_url=f"sqlite+aiosqlite:///{tmp_path}/data/flow/flow.db")


@pytest.fixture
async def opened(settings: FlowSettings) -> AsyncIterator[Database]:
    opened = Database(settings)
    yield opened
    await opened.close()


async def test_files_are_private(opened: Database, tmp_path: Path) -> None:
    await create(opened)
    folder = tmp_path / "data" / "flow"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


async def test_a_full_disk_is_named_and_what_was_written_is_undone(opened: Database, tmp_path: Path) -> None:
    await create(opened)
    with pytest.raises(DatabaseError, match=f"{tmp_path}.*full") as raised:
        await execute(
            opened,
            "PRAGMA max_page_count=4",
            "INSERT INTO t VALUES (1)",
            "CREATE TABLE u (y BLOB)",
            "INSERT INTO u VALUES (zeroblob(100000))",
        )
    assert "disk" in raised.value.hint
    assert await count(opened) == 0


async def test_a_lock_is_waited_for_as_long_as_was_said(settings: FlowSettings, opened: Database) -> None:
    await create(opened)
    impatient = Database(settings, lock_wait_s=0.05)
    with migrate.backend_of(settings).migrating(1), pytest.raises(DatabaseError, match="locked"):
        await execute(impatient, "INSERT INTO t VALUES (1)")
    await impatient.close()


def test_a_damaged_database_is_named_with_its_remedy(settings: FlowSettings, tmp_path: Path) -> None:
    file = tmp_path / "data" / "flow" / "flow.db"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database " * 100)
    with pytest.raises(FedpartyError, match=f"{file}: the database cannot be brought .* not a database") as raised:
        migrate.upgrade(settings)
    assert "backup" in raised.value.hint
    with pytest.raises(FedpartyError, match=f"{file}: the database cannot be read: .* not a database"):
        migrate.current(settings)


def test_asking_for_the_revision_makes_no_file(settings: FlowSettings, tmp_path: Path) -> None:
    assert migrate.current(settings) is None
    assert list(tmp_path.iterdir()) == []
