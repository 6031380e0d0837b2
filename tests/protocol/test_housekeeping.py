"""Nothing grows with the number of jobs: rows, spool, what the worker keeps; what does so on purpose is named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from flow_party import FlowParty, description, flow_lab

from fedparty.database.engine import Database
from fedparty.flow import retention
from fedparty.flow.tables import DELETED_JOBS, METADATA

KEPT, JOBS = 3, 20
GROWING = {DELETED_JOBS.name}
"""Ids alone, for 30 days."""


async def _rows(party: FlowParty) -> dict[str, int]:
    database = Database(party.settings)
    try:
        found = {}
        for table in METADATA.sorted_tables:
            query = sa.select(sa.func.count()).select_from(table)
            found[table.name] = await database.read(lambda connection, query=query: connection.scalar(query))
        return found
    finally:
        await database.close()


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_many_jobs_leave_no_more_than_is_to_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PERIOD_S", 0.2)
    async with flow_lab("10000", "9999", retention_jobs=KEPT, cores=4) as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        spools = {party: _files(party.home / "data" / "spool") for party in (guest, host)}
        jobs = [await guest.submit(description()) for _ in range(JOBS)]
        for party in (guest, host):
            async with asyncio.timeout(30):
                while (rows := await _rows(party))["jobs"] > KEPT or rows["notices"]:  # noqa: ASYNC110 - a database
                    await asyncio.sleep(0.1)
            rows = await _rows(party)  # the tables are read one after the other: now nothing goes any more
            assert rows["role_runs"] <= KEPT * 2
            limit = {name: count for name, count in rows.items() if name not in GROWING and count > KEPT * 2}
            assert limit == {}
            assert rows[DELETED_JOBS.name] >= JOBS - KEPT
            assert len(set(party.worker.forgotten)) >= JOBS - KEPT
            assert _files(party.home / "data" / "spool") == spools[party]
        entries = await guest.call(lambda session: session.audit(1000))
        assert len([each for each in entries if each["subject"] in jobs]) == 2 * JOBS, "submit and prepare, once each"


async def test_files_may_go_before_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PERIOD_S", 0.1)
    async with flow_lab("10000", retention_files_days=1e-9) as lab:
        party = lab.parties["10000"]
        job = await party.submit(description(host="10000"))
        await party.until(job)
        async with asyncio.timeout(10):
            while job not in party.worker.forgotten:  # noqa: ASYNC110 - the worker is asked at the next look
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        assert party.worker.forgotten == [job], "once"
        assert (await party.call(lambda session: session.job(job))).result("sum", "guest") == {"role": "guest"}
