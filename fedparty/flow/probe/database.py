"""The flow's database: its revision, and whether it can be written now.

Owns the two questions and their limit in time: a lock that somebody holds is an answer, not a reason to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fedparty.database.engine import Database
from fedparty.database.migrate import check
from fedparty.errors import DatabaseError, FedpartyError
from fedparty.flow.probe.answers import FAIL, OK, Check
from fedparty.settings import FlowSettings

_LOCK_WAIT_S, _ANSWER_S = 1.5, 8.0
_CHANGES_NOTHING = "UPDATE alembic_version SET version_num = version_num"


async def examine(settings: FlowSettings) -> Sequence[Check]:
    """Read the revision, then write one row as it is."""
    try:
        database = Database(settings, lock_wait_s=_LOCK_WAIT_S)
    except (FedpartyError, OSError) as exc:
        return [_failed(settings, exc)]
    try:
        async with asyncio.timeout(_ANSWER_S):
            await _write_at_once(database)
    except TimeoutError:
        return [_failed(settings, DatabaseError(f"the database does not answer within {_ANSWER_S:g} s"))]
    except FedpartyError as exc:
        return [_failed(settings, exc)]
    finally:
        await database.close()
    return [Check("database", OK, "readable, writable, at this release's revision")]


async def _write_at_once(database: Database) -> None:
    await check(database)
    await database.write(lambda connection: connection.exec_driver_sql(_CHANGES_NOTHING))


def _failed(settings: FlowSettings, error: Exception) -> Check:
    hint = error.hint if isinstance(error, FedpartyError) else ""
    return Check("database", FAIL, str(error), hint or f"python deploy.py logs {settings.party} flow")
