"""Going on from an earlier job: what is done is not done again, and each party must still hold it."""

from __future__ import annotations

from typing import Any

import pytest
from flow_party import FlowParty, description, flow_lab

from fedparty.errors import FedpartyError


def _job(last: str = "succeed") -> dict[str, Any]:
    tasks = {
        "first": {"component": "succeed"},
        "beside": {"component": "succeed"},
        "second": {"component": "fail", "after": ["first", "beside"]},
        "third": {"component": last, "after": ["second"]},
    }
    return description() | {"tasks": tasks}


def _starts(party: FlowParty, job: str) -> set[str]:
    return {run.task for run, _ in party.worker.starts if run.job == job}


async def _failed(guest: FlowParty) -> str:
    """Return a job that failed in its second task, when its two first ones had succeeded."""
    job = await guest.submit(_job())
    ended = await guest.until(job)
    assert ended.state == "failed"
    assert {task.task for task in ended.tasks if task.state == "success"} >= {"first", "beside"}
    return job


async def test_what_was_done_is_taken_over_and_the_rest_runs() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        job = await _failed(guest)
        for party in (guest, host):
            party.worker._begin = _succeeding(party)  # type: ignore[method-assign]
        again = await guest.call(lambda session: session.rerun(job, "second"))
        ended = await guest.until(again.id)
        assert ended.state == "success"
        for party in (guest, host):
            assert _starts(party, again.id) == {"second", "third"}
            assert {task for task, _ in party.worker.taken_over} == {"first", "beside"}
            seen = await party.call(lambda session: session.job(again.id))
            own = {task.task for task in seen.tasks if task.party == party.party and task.state == "success"}
            assert own == {"first", "beside", "second", "third"}
        assert ended.result("first", "guest") == {"role": "guest"}
        whole = await guest.call(lambda session: session.rerun(again.id))
        assert (await guest.until(whole.id)).state == "success"
        assert _starts(guest, whole.id) == {"first", "beside", "second", "third"}


async def test_a_party_that_holds_it_no_more_is_named() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        job = await _failed(guest)
        host.worker.forgotten.append(job)
        ended = await guest.until((await guest.call(lambda session: session.rerun(job, "second"))).id)
        assert "party 9999 does not hold the files of task" in ended.error
        await host.until(job)
        await host.call(lambda session: session.delete(job))
        ended = await guest.until((await guest.call(lambda session: session.rerun(job, "second"))).id)
        assert "party 9999 does not hold the job of job" in ended.error
        assert _starts(guest, ended.id) == set()


async def test_what_cannot_be_gone_on_from_is_refused_at_once() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = lab.parties["10000"]
        job = await _failed(guest)
        for more, said in (
            ({"job": job, "task": "none"}, "there is no task none"),
            ({"job": job, "task": "third"}, "does not hold a success of task second"),
            ({"job": "9999-" + job.partition("-")[2], "task": "second"}, "did not open it"),
            ({"job": job[:-1] + ("0" if job[-1] != "0" else "1"), "task": "second"}, "does not hold the job"),
        ):
            with pytest.raises(FedpartyError, match=said):
                await guest.submit(_job() | {"resume": more})
        changed = _job() | {"resume": {"job": job, "task": "second"}}
        changed["tasks"]["first"] = {"component": "succeed", "parameters": {"other": 1}}
        with pytest.raises(FedpartyError, match="did something else"):
            await guest.submit(changed)


def _succeeding(party: FlowParty) -> Any:
    def begin(_component: str, run: Any, member: Any) -> None:
        party.worker._report(run, member, "success", result=f'{{"role": "{member.role}"}}')

    return begin
