"""A submission that is repeated makes one job, with each kind of database."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import httpx
import pytest
from flow_party import TOKEN, Databases, FlowParty, description, flow_lab

from fedparty.errors import RpcError


async def submit(party: FlowParty, key: str | None, job: dict[str, Any], token: str = TOKEN) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(uds=str(party.home / "run" / "flow-rest.sock"))
    headers = {"authorization": f"Bearer {token}"} | ({} if key is None else {"idempotency-key": key})
    async with httpx.AsyncClient(transport=transport, base_url="http://flow", headers=headers) as client:
        return await client.post("/v1/jobs", json=job, timeout=20)


def own(component: str = "succeed") -> dict[str, Any]:
    return description(component, host="10000")


async def test_the_same_key_is_answered_with_the_same_job(database: Databases) -> None:
    async with flow_lab("10000", database=database) as lab:
        party = lab.parties["10000"]
        at_once = await asyncio.gather(*(submit(party, "key-1", own()) for _ in range(5)))
        assert {answer.status_code for answer in at_once} == {201}
        (job,) = {answer.json()["id"] for answer in at_once}
        await party.until(job)
        await party.stop_flow()
        await party.start_flow()
        again = (await submit(party, "key-1", own())).json()
        assert (again["id"], again["state"], again["tasks"][0]["state"]) == (job, "success", "success")
        assert len(await party.call(lambda session: session.jobs())) == 1
        assert len({member for _, member in party.worker.starts}) == len(party.worker.starts) == 2
        others = [(await submit(party, key, own())).json()["id"] for key in ("key-2", None, None)]
        assert len({job, *others}) == 4


async def test_a_key_is_not_for_two_jobs_and_is_its_users_own() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        job = (await submit(party, "key", own())).json()["id"]
        refused = await submit(party, "key", own("fail"))
        assert (refused.status_code, refused.json()["error"]) == (
            422,
            f"the idempotency key key was used for another job, {job}",
        )
        await party.call(lambda session: session.add_user("alice", "researcher", ""))
        token = (await party.call(lambda session: session.new_token("alice", 60)))["token"]
        assert (await submit(party, "key", own("fail"), token)).json()["id"] != job
        for no_key in ("", "two words", "x" * 65):
            assert (await submit(party, no_key, own())).status_code == 422


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # httpcore leaves it to the garbage collector
async def test_the_client_waits_for_a_flow_that_is_being_started_and_not_for_one_that_is_not() -> None:
    async with flow_lab("10000", start=False) as lab:
        party = lab.parties["10000"]
        with pytest.raises(RpcError, match="does not answer") as raised:
            await party.submit(own())
        assert raised.value.code == "FLOW_DOWN"
        submitting = asyncio.create_task(party.submit(own()))
        await party.start_flow()
        assert (await party.until(await submitting)).state == "success"
        assert len(await party.call(lambda session: session.jobs())) == 1
    del raised, submitting
    gc.collect()
