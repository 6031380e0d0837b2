"""Transactions, the same at each kind of database: what is undone, who waits, what survives."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import count, create, execute, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database import migrate
from fedparty.database.engine import Database
from fedparty.settings import FlowSettings


async def _hold(connection: AsyncConnection, x: int, entered: asyncio.Event, let_go: asyncio.Event) -> None:
    await connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": x})
    entered.set()
    await let_go.wait()


async def test_what_raises_is_undone(opened: Database) -> None:
    await create(opened)
    with pytest.raises(sa.exc.IntegrityError):
        await execute(opened, "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)")
    assert await count(opened) == 0


async def test_what_is_cancelled_is_whole_or_undone_and_the_next_writes(opened: Database) -> None:
    await create(opened)
    entered, let_go = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(opened.write(lambda connection: _hold(connection, 1, entered, let_go)))
    await entered.wait()
    task.cancel()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count(opened) in (0, 1)
    async with asyncio.timeout(5):
        await insert(opened, 2)


async def test_callers_that_go_at_any_moment_leave_no_lock(opened: Database) -> None:
    async def work(connection: AsyncConnection, x: int) -> None:
        await connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": x})
        await connection.execute(sa.text("SELECT count(*) FROM t"))

    await create(opened)
    order = random.Random(1)
    for turn in range(200):
        writers = [asyncio.create_task(opened.write(partial(work, x=3 * turn + each))) for each in range(3)]
        await asyncio.sleep(order.uniform(0, 0.004))
        for _ in range(order.randint(1, 2)):  # the second time meets what the first one is cleaning up
            for writer in writers:
                writer.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*writers, return_exceptions=True)
        async with asyncio.timeout(5):
            await insert(opened, -1 - turn)


async def test_writers_get_their_turn_and_readers_do_not_wait(opened: Database) -> None:
    await create(opened)
    entered, let_go = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(opened.write(lambda connection: _hold(connection, 0, entered, let_go)))
    await entered.wait()
    others = [asyncio.create_task(insert(opened, x)) for x in range(1, 30)]
    before = await count(opened)
    let_go.set()
    await asyncio.gather(first, *others)
    assert before < 30
    assert await count(opened) == 30


async def test_cancelling_many_leaves_no_lock(opened: Database) -> None:
    await create(opened)
    tasks = [asyncio.create_task(insert(opened, x)) for x in range(40)]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0)
        if number % 2:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await insert(opened, 100)
    assert await count(opened) >= 21


async def test_foreign_keys_are_held(settings: FlowSettings, opened: Database) -> None:
    migrate.upgrade(settings)
    with pytest.raises(sa.exc.IntegrityError):
        await execute(opened, "INSERT INTO notices VALUES ('nobody', '1', 0)")


async def test_a_commit_survives_kill_9(settings: FlowSettings, opened: Database, tmp_path: Path) -> None:
    await create(opened)
    (tmp_path / "s.json").write_text(settings.model_dump_json())
    script = (
        "import asyncio, os, pathlib, signal, sys, sqlalchemy as sa\n"
        "from fedparty.database.engine import Database\n"
        "from fedparty.settings import FlowSettings, load\n"
        "async def main():\n"
        "    database = Database(load(FlowSettings, pathlib.Path(sys.argv[1])))\n"
        "    await database.write(lambda c: c.execute(sa.text('INSERT INTO t VALUES (7)')))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())"
    )
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, str(tmp_path / "s.json")])
    assert killed.returncode == -9
    assert await count(opened) == 1


async def test_closing_leaves_no_thread(settings: FlowSettings) -> None:
    before = set(threading.enumerate())
    database = Database(settings)
    await create(database)
    await database.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()
