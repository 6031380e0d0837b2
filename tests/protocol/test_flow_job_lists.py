"""Jobs over REST: pages, names in short, deleting, running again, logs that go on, and progress."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import httpx
import pytest
from flow_party import TOKEN, FlowParty, description, flow_lab

from fedparty.client import JobStatus, Session
from fedparty.errors import JobError, RpcError

UNKNOWN = "10000-01JD3M00000000000000000000"


async def _ask(party: FlowParty, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(uds=str(party.home / "run" / "flow-rest.sock"))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://flow", headers=headers) as client:
        return await client.request(method, path, timeout=20, **options)


async def test_pages_states_and_short_names() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        jobs = [await party.submit(description(host="10000")) for _ in range(3)]
        for job in jobs:
            await party.until(job)
        failed = await party.submit(description("fail", host="10000"))
        await party.until(failed)

        def story(session: Session) -> None:
            newest_first = [failed, *reversed(jobs)]
            assert [job.id for job in session.jobs()] == newest_first
            assert [job.id for job in session.jobs(2)] == newest_first[:2]
            assert [job.id for job in session.jobs(2, before=newest_first[1])] == newest_first[2:]
            assert session.jobs(before=newest_first[-1]) == ()
            assert [job.id for job in session.jobs(states=("failed",))] == [failed]
            assert [job.id for job in session.jobs(states=("failed", "success"))] == newest_first
            assert session.jobs(states=("running",)) == ()
            assert session.find("-") == failed
            assert session.find(failed) == failed
            assert session.find(failed[-8:].lower()) == failed
            with pytest.raises(JobError, match="several jobs' ids"):
                session.find("10000-")
            for unknown in ("ZZZZ", "no%such", "", "../x"):
                with pytest.raises(JobError, match="no job"):
                    session.find(unknown)
            with pytest.raises(RpcError, match="knows no job"):
                session.jobs(before=UNKNOWN)

        await party.call(story)
        for path in ("?state=asleep", "?match=a%25", "?before=", "?limit=1001", f"?before={UNKNOWN}"):
            answer = await _ask(party, "GET", f"/v1/jobs{path}")
            assert answer.status_code in (404, 422), path
            assert set(answer.json()) == {"error", "hint", "code"}


async def test_a_job_is_deleted_with_all_that_is_kept_of_it_and_does_not_come_back() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        with pytest.raises(RpcError, match="is running") as raised:
            await guest.call(lambda session: session.delete(job))
        assert (raised.value.code, raised.value.hint) == ("CONFLICT", "Stop it first.")
        await guest.call(lambda session: session.stop(job))
        for party in (guest, host):
            await _until_deleted(party, job)
            assert (await _ask(party, "GET", f"/v1/jobs/{job}")).status_code == 404
            assert (await _ask(party, "DELETE", f"/v1/jobs/{job}")).status_code == 404
            assert await party.call(lambda session: session.jobs()) == ()
            assert party.worker.forgotten == [job]


async def _until_deleted(party: FlowParty, job: str) -> None:
    """Delete a job; shortly after its end something may still be held of it."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await party.call(lambda session: session.delete(job))
            except RpcError as exc:
                if exc.code != "CONFLICT":
                    raise
                await asyncio.sleep(0.05)


async def test_a_job_is_kept_until_everybody_was_told() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = lab.parties["10000"]
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        lab.unreachable.add("9999")
        await guest.call(lambda session: session.stop(job))
        with pytest.raises(RpcError, match=r"party (10000, )?9999 was not told yet"):
            await guest.call(lambda session: _delete_unless_held(session, job))
        lab.unreachable.clear()
        await _until_deleted(guest, job)


def _delete_unless_held(session: Session, job: str) -> None:
    while True:
        try:
            return session.delete(job)
        except RpcError as exc:
            if "cleared" not in exc.message:
                raise


async def test_what_a_job_was_to_do_and_again() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        asked = description(host="10000", cores=2, parameters={"a": [1]})
        job = await party.submit(asked)
        assert await party.call(lambda session: session.description(job)) == asked
        again = await party.call(lambda session: session.rerun(job))
        assert again.id != job
        assert (await party.until(again.id)).state == "success"
        assert await party.call(lambda session: session.description(again.id)) == asked
        assert (await _ask(party, "GET", f"/v1/jobs/{UNKNOWN}/description")).status_code == 404


async def test_waiting_sees_every_change_of_a_role() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        job = await party.submit(description("hang", host="10000"))
        seen: list[JobStatus] = []
        waiting = asyncio.create_task(party.call(lambda session: session.wait(job, on_change=seen.append)))
        await party.until_started(job, 1)
        await party.worker.end("guest", "success")
        async with asyncio.timeout(10):
            while not any({task.state for task in each.tasks} == {"success", "running"} for each in seen):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert seen[-1].state == "running"
        await party.worker.end("host", "success")
        assert (await waiting).state == "success"


async def test_logs_go_on_where_they_were() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        lines = [{"message": f"line {number} é"} for number in range(10)]
        party.worker.logs["guest"] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        job = await party.submit(description(host="10000"))
        await party.until(job)
        path = f"/v1/jobs/{job}/logs?role=guest&positions=true"
        first = [json.loads(line) for line in (await _ask(party, "GET", path)).text.splitlines()]
        assert [line for line in first if "message" in line] == lines
        place = first[-1]
        assert place == {"log": "sum/1/guest", "offset": len(party.worker.logs["guest"])}
        party.worker.logs["guest"] += b'{"message": "new"}\n'
        rest = await _ask(party, "GET", f"{path}&offset={place['log']}:{place['offset']}")
        assert json.loads(rest.text.splitlines()[0]) == {"message": "new"}
        for wrong in ("x", "sum/1/guest", "sum/1/guest:-1", "../1/guest:1"):
            assert (await _ask(party, "GET", f"{path}&offset={wrong}")).status_code == 422


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_follower_bears_a_restart_of_the_flow_and_sees_each_line_once() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        party.worker.logs["guest"] = b'{"message": "before"}\n'
        job = await party.submit(description("hang", host="10000"))
        await party.until(job, "running")
        lines: list[str] = []

        def follow(session: Session) -> None:
            for line in session.logs(job, "guest", follow=True):
                lines.append(line["message"])  # one by one: they are looked at meanwhile

        following = asyncio.create_task(party.call(follow))
        async with asyncio.timeout(10):
            while not lines:  # noqa: ASYNC110 - a thread adds to them
                await asyncio.sleep(0.02)
        await party.stop_flow()
        party.worker.logs["guest"] += b'{"message": "after"}\n'
        await party.start_flow()
        await party.worker.end("guest", "success")
        await party.worker.end("host", "success")
        await following
        assert [line for line in lines if line != "ended"] == ["before", "after"]
    del following
    gc.collect()  # httpcore leaves a Unix socket that could not be connected to the garbage collector


async def test_the_ca_is_shown_to_everybody() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        transport = httpx.AsyncHTTPTransport(uds=str(party.home / "run" / "flow-rest.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://flow") as client:
            assert (await client.get("/v1/ca")).text == lab.authority.certificate_pem.decode()
            for path in ("/v1/ca/", "/v1/ca/x", "/v1/cax"):
                assert (await client.get(path)).status_code == 401
