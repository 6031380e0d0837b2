"""Jobs between real flows: how they end, and that they end the same everywhere."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from flow_party import Databases, FlowLab, FlowParty, description, flow_lab

from fedparty.database import sqlite
from fedparty.errors import FedpartyError


def _two(lab: FlowLab) -> tuple[FlowParty, FlowParty]:
    return lab.parties["10000"], lab.parties["9999"]


async def test_a_job_succeeds_everywhere_with_its_results(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description())
        ended = await guest.until(job)
        assert (ended.state, ended.error) == ("success", "")
        assert ended.result("sum", "host") == {"role": "host"}
        assert (await host.until(job)).state == "success"
        assert [task.state for task in (await host.until(job)).tasks] == ["success"]


async def test_guest_and_host_may_be_one_party(database: Databases) -> None:
    async with flow_lab("10000", database=database) as lab:
        job = await lab.parties["10000"].submit(description(host="10000", role_parameters={"host": {"x": 2}}))
        ended = await lab.parties["10000"].until(job)
        assert ended.state == "success"
        assert {task.role for task in ended.tasks} == {"guest", "host"}
        parameters = lab.parties["10000"].worker.parameters
        assert {member.role: value for (_, member), value in parameters.items()} == {"guest": {}, "host": {"x": 2}}


async def test_the_initiator_needs_no_role() -> None:
    async with flow_lab("10000", "9999") as lab:
        initiator, other = _two(lab)
        job = await initiator.submit(description(guest="9999"))
        ended = await initiator.until(job)
        assert (ended.state, ended.result("sum", "guest")) == ("success", {"role": "guest"})
        assert (await other.until(job)).state == "success"
        assert initiator.worker.starts == []


async def test_three_parties() -> None:
    async with flow_lab("10000", "9999", "9998") as lab:
        job = description()
        job["roles"]["host"] = ["9999", "9998"]
        ended = await lab.parties["10000"].until(await lab.parties["10000"].submit(job))
        assert ended.state == "success"
        assert len(ended.tasks) == 3


async def test_tasks_run_in_the_order_of_the_graph(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, _ = _two(lab)
        job = description()
        job["tasks"] = {
            "last": {"component": "succeed", "after": ["left", "right"]},
            "left": {"component": "succeed", "after": ["first"]},
            "right": {"component": "succeed", "after": ["first"]},
            "first": {"component": "succeed"},
        }
        assert (await guest.until(await guest.submit(job))).state == "success"
        order = [run.task for run, _ in guest.worker.starts]
        assert (order[0], order[-1], set(order[1:3])) == ("first", "last", {"left", "right"})


async def test_a_role_that_fails_fails_the_job_and_stops_the_others(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("fail"))
        ended = await guest.until(job)
        assert ended.state == "failed"
        assert ended.error == "host at party 9999, task sum: no such table"
        assert ended.hint == "Bind the table."
        await guest.worker.until_idle()
        assert {task.role: task.state for task in ended.tasks} == {"guest": "canceled", "host": "failed"}
        assert (await host.until(job)).error == ended.error
        await guest.until_free(4)
        await host.until_free(4)


async def test_a_lost_role_is_tried_again_at_all_parties(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.worker.until_running()
        await host.worker.until_running()
        await host.worker.end("host", "lost", error="the process was killed")
        await _until_attempt(host, 2)
        await _until_attempt(guest, 2)
        await guest.worker.end("guest", "success")
        await host.worker.end("host", "success")
        ended = await guest.until(job)
        assert ended.state == "success"
        assert {(t.attempt, t.role): t.state for t in ended.tasks} == {
            (1, "guest"): "canceled",
            (1, "host"): "lost",
            (2, "guest"): "success",
            (2, "host"): "success",
        }


async def test_attempts_are_bounded() -> None:
    async with flow_lab("10000", "9999", max_attempts=2) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        for attempt in (1, 2):
            await _until_attempt(host, attempt)
            await _until_attempt(guest, attempt)
            await host.worker.end("host", "lost", error="the process was killed", hint="Look at the worker's log.")
        ended = await guest.until(job)
        assert ended.state == "failed"
        assert ended.error == "host at party 9999, task sum, attempt 2: the process was killed"
        assert ended.hint == "Look at the worker's log."


async def test_a_job_that_takes_too_long_ends_everywhere(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang", timeout_s=2))
        ended = await guest.until(job)
        assert ended.state == "timeout"
        assert "2 s" in ended.error
        assert (await host.until(job)).state == "timeout"
        await guest.worker.until_idle()
        await host.worker.until_idle()
        await host.until_free(4)


async def test_the_host_keeps_the_deadline_when_the_initiator_is_gone() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang", timeout_s=1))
        await host.worker.until_running()
        lab.unreachable.add("9999")
        await guest.stop_flow()
        ended = await host.until(job)
        assert ended.state == "timeout"
        await host.worker.until_idle()
        await host.until_free(4)


async def test_a_person_stops_a_job(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await host.worker.until_running()
        stopped = await guest.call(lambda session: session.stop(job))
        assert (stopped.state, stopped.error) == ("canceled", "stopped by the people of party 10000")
        assert (await host.until(job)).state == "canceled"
        await host.worker.until_idle()
        await guest.worker.until_idle()
        await guest.until_free(4)
        assert (await guest.call(lambda session: session.stop(job))).state == "canceled"


async def test_the_hosts_people_may_stop_their_part() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await host.worker.until_running()
        await host.call(lambda session: session.stop(job))
        ended = await guest.until(job)
        assert ended.state == "canceled"
        assert "stopped by the people of party 9999" in ended.error


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"cores": 5}, "task sum asks for 5 cores, party 10000 has 4 cores"),
        ({"memory_bytes": 9 << 30}, "task sum asks for 9 GiB of memory, party 10000 has 8 GiB of memory"),
        ({"gpus": 3}, "task sum asks for 3 GPUs, party 10000 has 2 GPUs"),
    ],
)
async def test_more_than_the_party_will_ever_have_is_not_even_accepted(asked: dict[str, int], told: str) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, _ = _two(lab)
        assert told in await guest.call(lambda session: _error_of(lambda: session.submit(description(**asked))))
        assert await guest.call(lambda session: session.jobs()) == ()


async def test_more_than_another_party_has_fails_the_job_before_its_first_task() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        job = description(guest="9999") | {
            "tasks": {
                "first": {"component": "succeed"},
                "large": {"component": "succeed", "cores": 5, "after": ["first"]},
            }
        }
        ended = await guest.until(await guest.submit(job), timeout_s=2)
        assert ended.state == "failed"
        assert "task large asks for 10 cores, party 9999 has 4 cores" in ended.error
        assert host.worker.starts == []


async def test_a_job_waits_for_cores_without_holding_any() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        first = await host.submit(description("hang", guest="9999", host="9999", cores=2))
        await host.worker.until_running(2)
        second = await guest.submit(description(cores=1))
        assert (await guest.until(second, "waiting")).state == "waiting"
        await guest.until_free(4)
        await host.worker.end("guest", "success")
        await host.worker.end("host", "success")
        assert (await host.until(first)).state == "success"
        assert (await guest.until(second)).state == "success"


async def test_a_job_that_got_no_cores_in_time_says_so() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        await host.submit(description("hang", guest="9999", host="9999", cores=2))
        await host.worker.until_running(2)
        ended = await guest.until(await guest.submit(description(timeout_s=2)))
        assert ended.state == "timeout"
        assert "it waited for resources: " in ended.error
        assert "party 9999: task sum asks for 1 cores, party 9999 has 0 cores free of 4 cores" in ended.error
        await guest.until_free(4)


async def test_a_person_stops_a_job_though_the_proxy_is_down() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, _ = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        await guest.egress_server.stop(0)
        await guest.call(lambda session: session.stop(job))
        await guest.worker.until_idle()
        await guest.until_free(4)


async def test_many_jobs_at_once_leak_nothing(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        jobs = [await guest.submit(description(cores=1)) for _ in range(12)]
        assert {(await guest.until(job, timeout_s=30)).state for job in jobs} == {"success"}
        assert {(await host.until(job)).state for job in jobs} == {"success"}
        await guest.until_free(4)
        await host.until_free(4)


async def test_a_job_ends_at_both_parties_though_their_databases_were_locked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang", timeout_s=1))
        await guest.until(job, "running")
        async with _locked(guest), _locked(host):
            async with asyncio.timeout(20):
                while caplog.text.count("recorded later") < 2:  # noqa: ASYNC110 -- a log has no event
                    await asyncio.sleep(0.02)
            refused = await guest.call(lambda session: _error_of(lambda: session.stop(job)))
            assert "the database" in refused
            assert "locked" in refused
        for party in (guest, host):
            assert (await party.until(job)).state == "timeout"
            await party.until_free(4)


@asynccontextmanager
async def _locked(party: FlowParty) -> AsyncIterator[None]:
    """Keep a party's flow from writing to its database, once it has written what it is writing now."""
    other = sqlite3.connect(party.home / "data" / "flow.db", isolation_level=None, check_same_thread=False)
    try:
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


def _error_of(call: Callable[[], object]) -> str:
    with pytest.raises(FedpartyError) as raised:
        call()
    return raised.value.message


async def _until_attempt(party: FlowParty, attempt: int) -> None:
    worker = party.worker
    async with worker.changed:
        await worker.changed.wait_for(lambda: any(run.attempt == attempt for run, _ in worker.running))
