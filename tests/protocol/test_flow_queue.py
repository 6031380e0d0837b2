"""Jobs that wait for resources: their order, attempts and limits of single tasks, and that old jobs go."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from flow_party import Databases, FlowLab, FlowParty, Member, description, flow_lab

from fedparty.database.engine import Database
from fedparty.flow.changes import Changes
from fedparty.flow.codes import Codes
from fedparty.flow.codes.store import CodeStore
from fedparty.flow.records import Job, Outcome
from fedparty.flow.retention import Retention
from fedparty.flow.site import Site
from fedparty.flow.states import State
from fedparty.flow.store import Store
from fedparty.types import JobId, PartyId, TaskRun


def _two(lab: FlowLab) -> tuple[FlowParty, FlowParty]:
    return lab.parties["10000"], lab.parties["9999"]


async def _waiting(party: FlowParty) -> int:
    return int((await party.call(lambda session: session.party())).waiting)


async def _until_waiting(party: FlowParty, count: int) -> None:
    async with asyncio.timeout(10):
        while await _waiting(party) != count:  # noqa: ASYNC110 - from outside there is nothing to wait on
            await asyncio.sleep(0.02)


async def test_a_job_of_higher_priority_goes_first_and_nothing_is_polled() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        first = await guest.submit(description("hang", cores=4))
        await guest.worker.until_running()
        await host.worker.until_running()
        usual = await guest.submit(description(cores=4))
        await _until_waiting(host, 1)
        urgent = await guest.submit(description(cores=4) | {"priority": 5})
        await _until_waiting(host, 2)
        for party in (guest, host):
            await party.worker.end("guest", "success")
            await party.worker.end("host", "success")
        for job in (first, usual, urgent):
            assert (await guest.until(job)).state == "success"
        order = [run.job for run, _ in guest.worker.starts]
        assert order == [first, urgent, usual]
        await _until_waiting(host, 0)


async def test_jobs_of_both_parties_that_need_all_of_both_do_not_lock_each_other_out() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        jobs = []
        for _ in range(6):
            jobs.append((guest, await guest.submit(description(cores=4))))
            jobs.append((host, await host.submit(description(guest="9999", host="10000", cores=4))))
        for party, job in jobs:
            assert (await party.until(job, timeout_s=30)).state == "success"
        for party in (guest, host):
            await party.until_free(4)
            assert await _waiting(party) == 0


async def test_a_job_that_waits_is_stopped_and_leaves_the_line() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        await guest.submit(description("hang", cores=4))
        await host.worker.until_running()
        waits = await guest.submit(description(cores=4))
        await _until_waiting(host, 1)
        assert (await guest.call(lambda session: session.stop(waits))).state == "canceled"
        await _until_waiting(host, 0)


async def test_a_party_that_keeps_no_line_is_asked_again_now_and_then() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        first = await guest.submit(description("hang", cores=4))
        await host.worker.until_running()
        await guest.worker.until_running()
        lab.without_lines.add("9999")
        second = await guest.submit(description(cores=4))
        await _until_waiting(guest, 1)
        assert await _waiting(host) == 0
        await guest.worker.end("guest", "success")
        await host.worker.end("host", "success")
        assert (await guest.until(first)).state == "success"
        assert (await guest.until(second)).state == "success"


async def test_a_task_says_itself_how_often_it_is_tried() -> None:
    async with flow_lab("10000", "9999", max_attempts=3) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang", retries=1))
        await guest.worker.until_running()
        await host.worker.until_running()
        await host.worker.end("host", "lost", error="the process was killed")
        ended = await guest.until(job)
        assert (ended.state, ended.error) == ("failed", "host at party 9999, task sum: the process was killed")
        assert {task.attempt for task in ended.tasks} == {1}


async def test_an_attempt_that_takes_too_long_is_tried_again_and_then_is_a_time_out() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang", retries=2) | {"tasks": _tasks(timeout_s=7.5, retries=2)})
        for attempt in (1, 2):
            await guest.until_started(job, attempt)
            run = TaskRun(JobId(job), "sum", attempt)
            assert guest.worker.remaining_s[run, Member("guest", PartyId("10000"))] == 7.5
            await host.until_started(job, attempt)
            await host.worker.end("host", "timeout", error="killed after its time limit of 7.5 s")
        ended = await guest.until(job)
        assert ended.state == "timeout"
        assert ended.error == "host at party 9999, task sum, attempt 2: killed after its time limit of 7.5 s"
        await guest.until_free(4)
        await host.until_free(4)


def _tasks(**more: Any) -> dict[str, Any]:
    return {"sum": {"component": "hang", "cores": 1, **more}}


async def test_old_jobs_go_by_age_and_by_number_with_what_the_worker_keeps(database: Databases) -> None:
    async with flow_lab("10000", start=False, database=database) as lab:
        party = lab.parties["10000"]
        opened = Database(party.settings)
        store = Store(opened, Changes())
        try:
            await _fill(store, 1500)
            site, codes = _Deleting(store), Codes(PartyId(party.party), CodeStore(opened))
            assert await Retention(site, store, codes, days=30, jobs=10_000).clean() == 500
            assert await Retention(site, store, codes, days=30, jobs=200).clean() == 800
            kept = await store.jobs(1000)
            assert len(kept) == 200
            assert kept[0].name == "job 1499"
            assert len(site.forgotten) == 1300
            assert await Retention(site, store, codes, days=30, jobs=100).clean() == 99, "one is open, and stays"
        finally:
            await opened.close()


class _Deleting(Site):
    """A site of which only the deletion of jobs is asked."""

    def __init__(self, store: Store) -> None:
        self._kept = store
        self.forgotten: list[JobId] = []

    async def delete(self, job: JobId) -> None:
        self.forgotten.append(job)
        await self._kept.delete(job, time.time() + 60)


async def _fill(store: Store, count: int) -> None:
    """Record jobs, the first 500 of them two months old, and one that has not ended."""
    text = json.dumps(description())
    now = time.time()
    for number in range(count):
        created_at = now - 60 * 86400 + number if number < 500 else now - count + number
        name = JobId(f"10000-{number:026d}")
        job = Job(name, PartyId("10000"), f"job {number}", text, State.WAITING, created_at, now + 60)
        await store.add_job(job)
        if number != 1350:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("fedparty.flow.store.time.time", lambda ended_at=created_at: ended_at)
                await store.end_part(name, PartyId("10000"), Outcome(State.CANCELED, "enough"))
