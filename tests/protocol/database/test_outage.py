"""Flows whose database is killed in the middle of jobs: no job is lost, none is run twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from flow_party import TOKEN, Databases, FlowLab, FlowParty, description, flow_lab
from mariadb import MariaDb


def _of(server: MariaDb) -> Databases:
    return lambda _home: server.by_socket(server.create())


def _two(lab: FlowLab) -> tuple[FlowParty, FlowParty]:
    return lab.parties["10000"], lab.parties["9999"]


async def _ask(party: FlowParty, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(uds=str(party.home / "run" / "flow-rest.sock"))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://flow", headers=headers) as client:
        return await client.request(method, path, timeout=20, **options)


async def _until_ready(party: FlowParty) -> None:
    async with asyncio.timeout(10):
        while (await party.readiness())[0] != 200:  # noqa: ASYNC110 - from outside there is nothing to wait on
            await asyncio.sleep(0.02)


async def test_the_database_is_killed_while_a_job_runs_and_comes_back_later(mariadb: MariaDb) -> None:
    async with flow_lab("10000", "9999", database=_of(mariadb)) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        mariadb.kill()
        await guest.worker.end("guest", "success", result='{"sum": 1}')
        await host.worker.end("host", "success")
        for method, path, body in (("GET", f"/v1/jobs/{job}", None), ("POST", "/v1/jobs", description())):
            answer = await _ask(guest, method, path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_DOWN")
            assert "the database flow_" in answer.json()["error"]
            assert "Start the database" in answer.json()["hint"]
        status, answer = await guest.readiness()
        assert status == 503
        assert list(answer["waiting_for"]) == ["database"]
        assert (await _ask(guest, "GET", "/healthz")).status_code == 200
        mariadb.start()
        ended = await guest.until(job)
        assert (ended.state, ended.result("sum", "guest")) == ("success", {"sum": 1})
        assert (await host.until(job)).state == "success"
        assert len(guest.worker.starts) == len(host.worker.starts) == 1
        await _until_ready(guest)
        assert (await guest.until(await guest.submit(description()))).state == "success"


async def test_the_database_is_killed_again_and_again_under_many_jobs(mariadb: MariaDb) -> None:
    async with flow_lab("10000", "9999", database=_of(mariadb), peer_timeout_s=20) as lab:
        guest, host = _two(lab)

        async def submit_and_wait() -> str:
            return (await guest.until(await guest.submit(description(cores=0.2)), timeout_s=60)).state

        jobs = [asyncio.create_task(submit_and_wait()) for _ in range(8)]
        for _ in range(3):
            await asyncio.wait(jobs, timeout=0.2)
            await asyncio.to_thread(mariadb.restart)
        assert Counter(await asyncio.gather(*jobs)) == {"success": 8}
        for party in (guest, host):
            assert Counter(Counter(party.worker.starts).values()) == {1: 8}
            assert {run.attempt for run, _ in party.worker.starts} == {1}
            await party.until_free(4)


async def test_a_job_is_stopped_though_its_database_was_away(mariadb: MariaDb) -> None:
    async with flow_lab("10000", "9999", database=_of(mariadb)) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        mariadb.kill()
        assert (await _ask(guest, "POST", f"/v1/jobs/{job}/stop")).status_code == 503
        mariadb.start()
        await guest.call(lambda session: session.stop(job))
        assert (await host.until(job)).state == "canceled"
        await guest.worker.until_idle()
        await host.worker.until_idle()


async def test_a_flow_waits_at_its_start_for_a_database_that_is_away(mariadb: MariaDb, tmp_path: Path) -> None:
    async with flow_lab("10000", database=_of(mariadb), start=False) as lab:
        party = lab.parties["10000"]
        mariadb.kill()
        starting = asyncio.create_task(party.start_flow())
        await asyncio.wait((starting,), timeout=1)
        assert not starting.done()
        mariadb.start()
        await starting
        assert (await party.until(await party.submit(description(host="10000")))).state == "success"
